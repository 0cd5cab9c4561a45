"""What a process imports for its first registration, told as steps of their own: the bar would else stand still meanwhile."""

from __future__ import annotations

import sys
from functools import cache

from DeepIterRegLib.cases.steps import Steps
from DeepIterRegLib.registration.network.proposals import load_ahead
from DeepIterRegLib.registration.steps import Step

_LOADED_BY = {Step.LOAD: "DeepIterRegLib.registration.pipeline", Step.LOAD_NETWORK: "torch"}


def loading_steps(*, network: bool) -> list[Step]:
    """Those of the steps that are not over in this process; `network`: whether the network will be asked."""
    wanted = [Step.LOAD, *([Step.LOAD_NETWORK] if network else [])]
    return [step for step in wanted if _LOADED_BY[step] not in sys.modules]


def load(steps: Steps, *, network: bool) -> None:
    """Import what the registration needs. Where PyTorch does not work, the network says so when it is asked."""
    loads_network = Step.LOAD_NETWORK in loading_steps(network=network)
    with steps.step(Step.LOAD):
        import DeepIterRegLib.registration.pipeline  # noqa: F401

        _load_compiler()
    if loads_network:
        with steps.step(Step.LOAD_NETWORK):
            load_ahead()


@cache
def _load_compiler() -> None:
    """What numba loads with the first function of a process, which else reading the DSA would wait for."""
    import numba

    numba.njit(lambda: None)()
