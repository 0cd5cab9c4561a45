"""How far to trust a registration: features of the pose found, a calibrated model, three states, and checks of the inputs."""

from DeepIterRegLib.confidence.assess import assess, with_skull
from DeepIterRegLib.confidence.features import MaskedView
from DeepIterRegLib.confidence.inputs import check_inputs

__all__ = ["MaskedView", "assess", "check_inputs", "with_skull"]
