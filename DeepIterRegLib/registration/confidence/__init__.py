"""How far to trust a registration: features of the pose found, a calibrated model, three states, and checks of the inputs."""

from DeepIterRegLib.registration.confidence.assess import assess, with_residue, with_skull
from DeepIterRegLib.registration.confidence.expected_error import announced
from DeepIterRegLib.registration.confidence.features import MaskedView
from DeepIterRegLib.registration.confidence.inputs import check_inputs

__all__ = [
    "MaskedView",
    "announced",
    "assess",
    "check_inputs",
    "with_residue",
    "with_skull",
]
