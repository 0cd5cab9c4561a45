"""The steps of every job, in their order, with the time that each takes; and which of them a registration will take.

This is the lowest floor on which work reports its progress. Faces put the steps into words.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from DeepIterRegLib.registration.settings import IntensityStage, RegistrationSettings


class Step(Enum):
    """A step of a job: its key, and its seconds on the demo patient with 2 cores, once and for each view.

    Only the ratios of the seconds matter: they share out the bar (`Testing/Benchmarks/progress.py` measures how well). Steps that go on
    beside each other have the share of the time that they take together. A job takes some of the steps, always in this order.
    """

    MAKE_PATIENT = ("make_patient", 3.3, 3.3)
    WRITE_PATIENT = ("write_patient", 1.3, 0.75)
    LOAD = ("load", 0.8, 0.0)
    LOAD_NETWORK = ("load_network", 3.2, 0.0)  # PyTorch, once in a process
    READ_POSES = ("read_poses", 0.02, 0.0)
    READ_DSA = ("read_dsa", 0.25, 1.05)
    READ_CTA = ("read_cta", 0.4, 0.0)
    READ_VOLUME = ("read_volume", 0.6, 0.0)
    READ_ITEMS = ("read_items", 1.0, 0.0)
    SEGMENT_CTA = ("segment_cta", 1.4, 0.0)
    SEGMENT_VEINS = ("segment_veins", 1.0, 0.0)
    SEGMENT_DSA = ("segment_dsa", 0.2, 0.25)
    COMPILE = ("compile", 9.0, 0.0)  # of the first registration only
    CHECK_INPUTS = ("check_inputs", 0.25, 0.05)
    SKULL = ("skull", 0.2, 0.6)
    SKULL_FINER = ("skull_finer", 0.1, 4.2)
    NETWORK = ("network", 1.1, 0.05)
    SEARCH = ("search", 0.1, 3.0)
    REFINE_SKULL = ("refine_skull_poses", 0.0, 0.3)
    REFINE_NETWORK = ("refine_network_poses", 0.2, 1.2)
    REFINE_EARLIER = ("refine_earlier_poses", 0.0, 0.5)
    REFINE_COARSE = ("refine_minip_coarse", 0.0, 0.1)
    REFINE = ("refine_minip", 0.0, 0.1)
    REFINE_WITH_SKULL = ("refine_skull", 0.05, 0.35)
    MASK_STAGE = ("mask_stage", 0.0, 0.7)  # an iteration
    MINIP_STAGE = ("minip_stage", 0.0, 0.7)  # an iteration
    CORRECT_VIEWS = ("correct_views", 0.0, 0.1)
    CONFIDENCE = ("confidence", 0.2, 0.65)
    EACH_VIEW = ("each_view", 1.0, 4.0)
    FRAMES = ("frames", 0.0, 0.2)
    PROJECT = ("project", 1.0, 0.0)
    DRAW = ("draw", 1.0, 0.0)
    WRITE = ("write", 1.0, 0.0)
    WRITE_REPORT = ("write_report", 0.15, 0.3)
    PREPARE_VIEWS = ("prepare_views", 0.5, 0.3)
    DRAW_PICTURES = ("draw_pictures", 1.0, 0.0)
    RUN_EXPERIMENT = ("run_experiment", 1.0, 0.0)
    MAKE_HEADS = ("make_heads", 1.0, 0.0)

    def __init__(self, key: str, once_s: float, view_s: float) -> None:
        # The key also tells steps of equal seconds apart: members of an Enum with equal values are one.
        self.key = key
        self._once_s, self._view_s = once_s, view_s

    def seconds(self, views: int = 1) -> float:
        """How long it is expected to take."""
        return self._once_s + self._view_s * views

    @classmethod
    def of_stage(cls, stage: IntensityStage) -> Step:
        """The step of one of the papers' stages, by what its DRR is compared with."""
        return cls.MASK_STAGE if stage.image == "mask" else cls.MINIP_STAGE


# What is set aside for a skull that is not clear (5 % of patients): a part of what that costs, so that the bar is not far off
# either way. With init `auto` the search then follows, so the part is smaller.
_UNCLEAR_SHARE = {"auto": 0.08, "skull": 0.16}
# The same for the residue of moved bone, after which a sixth of the views are searched: half, so that the bar is as far off either way.
_UNCLEAR_RESIDUE_SHARE = 0.5
# Times as long it is looked for there, and refined with, as with a skull in a mask frame.
_FOUND_IN_RESIDUE, _REFINED_IN_RESIDUE = 1.6, 3.0
_ORDER = tuple(Step)
_AFTER_SEGMENTATION = _ORDER[_ORDER.index(Step.CHECK_INPUTS) : _ORDER.index(Step.FRAMES) + 1]


def expected(*steps: Step, views: int = 1) -> dict[Enum, float]:
    """What `Progress.expect` takes: the seconds of steps."""
    return {step: step.seconds(views) for step in steps}


def registration_steps(settings: RegistrationSettings, views: int, *, skull_shown: bool = True) -> dict[Enum, float]:
    """Seconds of the steps of `pipeline.register` after segmentation, as far as they can be known; 0 for those left out.

    Parameters
    ----------
    settings
    views
        Number of DSAs.
    skull_shown
        Whether a mask frame shows the skull.
    """
    init = settings.init
    instead: dict[Enum, float] = {}
    steps = [Step.CHECK_INPUTS, Step.REFINE, Step.CONFIDENCE]
    if init in ("radiological", "file"):
        steps += [Step.REFINE_COARSE]
    elif init == "earlier":
        steps += [Step.REFINE_EARLIER, *([Step.REFINE_WITH_SKULL] if skull_shown else [])]
    elif init == "network":
        steps += [Step.NETWORK, Step.REFINE_NETWORK]
    elif init in ("skull", "auto") and skull_shown:
        steps += [Step.SKULL, Step.REFINE_SKULL, Step.REFINE_WITH_SKULL]
        unclear = expected(Step.SKULL_FINER, *([Step.SEARCH] if init == "auto" else []), views=views)
        instead = {step: _UNCLEAR_SHARE[init] * seconds for step, seconds in unclear.items()}
    elif init == "auto":
        steps += [Step.SKULL, Step.REFINE_SKULL, Step.REFINE_WITH_SKULL]
        instead = {
            Step.SEARCH: _UNCLEAR_RESIDUE_SHARE * Step.SEARCH.seconds(views),
            Step.SKULL: _FOUND_IN_RESIDUE * Step.SKULL.seconds(views),
            Step.REFINE_WITH_SKULL: _REFINED_IN_RESIDUE * Step.REFINE_WITH_SKULL.seconds(views),
        }
    else:
        steps += [Step.SEARCH]
    if settings.corrects_views(views):
        steps += [Step.CORRECT_VIEWS]
    if skull_shown:
        steps += [Step.FRAMES]
    left_out = {
        Step.REFINE_COARSE: not settings.near_levels,
        Step.REFINE: not settings.levels,
        Step.REFINE_WITH_SKULL: not settings.skull_weight > 0,
    }
    seconds: dict[Enum, float] = dict.fromkeys(_AFTER_SEGMENTATION, 0.0)
    seconds |= expected(*(step for step in steps if not left_out.get(step)), views=views) | instead
    for stage in settings.stages:
        step = Step.of_stage(stage)
        seconds[step] += step.seconds(views) * stage.optimisation.iterations
    return seconds
