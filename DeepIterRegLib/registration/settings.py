"""All that decides a registration besides its inputs, and the presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from DeepIterRegLib.common.devices import named, refuse_missing
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import NAMED_INITS, Device, GeometryRefinement, Init, Refinement, Search
from DeepIterRegLib.common.shown import quoted
from DeepIterRegLib.registration.between_views import BetweenRuns
from DeepIterRegLib.registration.network.proposals import NetworkInit
from DeepIterRegLib.registration.result import file_hash
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings
from DeepIterRegLib.registration.vessels.targets import REFINE

if TYPE_CHECKING:
    import torch  # what needs it imports it: a registration without network or papers' stages does without

Optimiser = Literal["gradient_descent", "momentum", "damped_momentum", "adam"]
Scheduler = Literal["none", "plateau", "plateau_with_restarts"]


@dataclass(frozen=True)
class RefineSettings:
    """How to step.

    Attributes
    ----------
    optimiser
        B section "Optimization": plain (eq. 3), with momentum (eq. 4), with damped momentum (eq. 5), Adam (eq. 6).
    rotation_rate_rad, translation_rate_mm
        Learning rates. With Adam about the length of a step; otherwise they multiply the gradient.
    iterations
        Largest number of evaluated poses; with Adam's steps and no scheduler, also about how far the search can get.
    momentum
        Share of the velocity kept, both momentum optimisers.
    dampening
        `damped_momentum` only: the gradient enters the velocity with 1 - dampening, as in PyTorch's SGD
        (B prints eq. 5 like eq. 4, where dampening equals momentum).
    patience
        An item stops when its best score has not risen by more than `tolerance` for so many iterations; None: never.
    scheduler
        Tried in A 3.4 without gain. `plateau`: after `scheduler_patience` iterations without a rise the item's rates
        are multiplied by `scheduler_factor`; with restarts, they begin anew when below a hundredth.

    Raises
    ------
    InputError
        Naming every field out of range.
    """

    optimiser: Optimiser = "adam"
    rotation_rate_rad: float = 1e-2
    translation_rate_mm: float = 1.0
    iterations: int = 250
    momentum: float = 0.9
    dampening: float = 0.9
    patience: int | None = 50
    tolerance: float = 1e-5
    scheduler: Scheduler = "none"
    scheduler_patience: int = 20
    scheduler_factor: float = 0.5

    def __post_init__(self) -> None:
        problems = []
        for name, choices in (("optimiser", get_args(Optimiser)), ("scheduler", get_args(Scheduler))):
            if getattr(self, name) not in choices:
                problems.append(f"refine.{name} is {quoted(getattr(self, name))}; use one of {', '.join(choices)}.")
        for name in ("rotation_rate_rad", "translation_rate_mm"):
            if not 0 <= getattr(self, name) < float("inf"):
                problems.append(f"refine.{name} is {getattr(self, name)}; it must be a finite number of at least 0.")
        if self.iterations < 1:
            problems.append(f"refine.iterations is {self.iterations}; it must be at least 1.")
        for name in ("momentum", "dampening"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"refine.{name} is {getattr(self, name)}; it must be at least 0 and below 1.")
        if self.patience is not None and self.patience < 1:
            problems.append(f"refine.patience is {self.patience}; it must be at least 1, or null to never stop early.")
        if not self.tolerance >= 0:
            problems.append(f"refine.tolerance is {self.tolerance}; it must be at least 0.")
        if self.scheduler_patience < 1:
            problems.append(f"refine.scheduler_patience is {self.scheduler_patience}; it must be at least 1.")
        if not 0 < self.scheduler_factor < 1:
            problems.append(f"refine.scheduler_factor is {self.scheduler_factor}; it must be above 0 and below 1.")
        if problems:
            raise InputError(problems)


# Published settings: A 4.3.4 (Resources/Docs/method.md, section 10); neither paper stops early.
PAPER_A_STAGE_1 = RefineSettings(
    optimiser="adam", rotation_rate_rad=1e-2, translation_rate_mm=1.0, iterations=2000, patience=None
)
PAPER_A_STAGE_2 = replace(PAPER_A_STAGE_1, rotation_rate_rad=1e-4, translation_rate_mm=0.04)


@dataclass(frozen=True)
class IntensityStage:
    """One first-order stage of paper A: render, compare, step.

    Attributes
    ----------
    image
        What the DRR is compared with: vessel mask of the DSA, or its MinIP.
    score
        Similarity.
    renderer
        `splat` or `siddon` (DiffDRR).
    rows
        Working grid.
    optimisation
        Optimiser and rates.
    """

    image: Literal["mask", "minip"]
    score: Literal["ncc", "mutual_information"]
    renderer: Literal["splat", "siddon"]
    rows: int
    optimisation: RefineSettings


@dataclass(frozen=True)
class RegistrationSettings:
    """All that decides a registration besides its inputs.

    Attributes
    ----------
    name
        Of the preset.
    init
        Where the refinement starts. `file` takes the pose given to `register`, `earlier` those of a session's earlier runs.
    search
        Used with init `search` and `auto`; its levels also refine what the network proposes.
    network
        Used with init `network`.
    near_levels
        Second-order refinement on the contrast of the MinIP, coarse to fine, where no search has done that work.
    levels
        Second-order refinement on the same contrast to the end.
    skull_weight
        What the skull's gradient correlation counts beside the vessels' ZNCC in the last stage, where the mask frame shows
        the skull and init is `skull`, `auto` or `earlier`; 0 for never. Its picture has more independent edges than that of the vessels.
    stages
        First-order stages after that.
    refine_geometry
        With several views: correct headers that contradict each other, once the pose is found; `auto` where the images say so, which
        also follows a head that moved a little.
    between_runs
        With several views: let the head have moved between their runs, as far as that; None takes it to have nearly lain still.
    device, seed
    """

    name: str = "default"
    init: Init = "auto"
    search: SearchSettings = field(default_factory=SearchSettings)
    network: NetworkInit = field(default_factory=NetworkInit)
    near_levels: tuple[Level, ...] = (
        Level(128, 8000, 1.5, 12, 1),
        Level(256, 30000, 1.0, 8, 1),
    )
    levels: tuple[Level, ...] = (Level(256, 30000, 1.0, 5, 3, REFINE), Level(384, 40000, 0.8, 8, 1, REFINE))
    skull_weight: float = 2.0
    stages: tuple[IntensityStage, ...] = ()
    refine_geometry: GeometryRefinement = "auto"
    between_runs: BetweenRuns | None = None
    device: Device = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.init not in (*NAMED_INITS, "file", "earlier"):
            problems.append(
                Message(f"{quoted(self.init)} is none of {', '.join(NAMED_INITS)}, nor a pose file", at="init")
            )
        if self.device not in get_args(Device):
            problems.append(Message(f"{quoted(self.device)} is not one of {', '.join(get_args(Device))}", at="device"))
        elif self.device not in ("auto", "cpu"):
            try:
                refuse_missing(self.device)
            except InputError as error:
                problems.extend(error.problems)
        if self.seed < 0:
            problems.append(Message(f"{self.seed} is not a whole number from 0", at="seed"))
        if problems:
            raise InputError(problems)
        if self.stages:
            import torch  # noqa: F401  # where it is missing or broken, it is said before images are read

    @classmethod
    def of(cls, search: Search, refinement: Refinement) -> RegistrationSettings:
        """The settings that a person's choices stand for.

        Preset `paper` is the radiological pose, then A 4.3.4's two stages of Adam on DiffDRR's Siddon images.

        Raises
        ------
        InputError
            No such preset, or a choice that cannot be.
        """
        init, weights = search.init, str(search.weights or "")
        if weights and init != "network":
            asked = init or ("radiological" if refinement.preset == "paper" else "auto")
            raise InputError(
                Message(
                    f"The weights are those of the network, which is not asked where init is {quoted(asked)}",
                    at="weights",
                    give=(Remedy("init", "network"),),
                )
            )
        common: dict[str, Any] = {
            "refine_geometry": refinement.refine_geometry,
            "between_runs": BetweenRuns() if refinement.between_runs else None,
            "device": refinement.device,
            "seed": refinement.seed,
        }
        if refinement.preset == "default":
            return cls(init=init or "auto", network=NetworkInit(weights), **common)  # type: ignore[arg-type]
        if refinement.preset == "paper":
            if refinement.refine_geometry == "auto":
                common["refine_geometry"] = "off"  # the papers correct nothing
            return cls(
                name="paper",
                init=init or "radiological",  # type: ignore[arg-type]
                network=NetworkInit(weights),
                # The papers' descent alone: neither second-order levels nor the skull.
                levels=(),
                near_levels=(),
                skull_weight=0.0,
                stages=(
                    IntensityStage("mask", "ncc", "siddon", 128, PAPER_A_STAGE_1),
                    IntensityStage("minip", "mutual_information", "siddon", 128, PAPER_A_STAGE_2),
                ),
                **common,
            )
        raise InputError(Message(f"There is no preset {quoted(refinement.preset)}", at="preset"))

    @classmethod
    def preset(cls, name: str, **chosen: Any) -> RegistrationSettings:
        """The settings of a preset, `default` or `paper`, with what was chosen for other options of `Search` and `Refinement`."""
        start = {option: chosen.pop(option) for option in ("init", "weights") if option in chosen}
        return cls.of(Search(**start), Refinement(preset=name, **chosen))  # type: ignore[arg-type]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values for a result; weights of a file by their content (SHA-256), as a path may name a patient."""
        values = asdict(self)
        if self.network.weights:
            values["network"]["weights"] = file_hash(self.network.weights)
        return values

    def corrects_views(self, views: int) -> bool:
        """Whether corrections are looked for once the pose of so many views is found."""
        return views > 1 and (self.refine_geometry != "off" or self.between_runs is not None)

    def torch_device(self) -> torch.device:
        """Torch's name of it; of `auto` a card where there is one."""
        import torch

        card = named(self.device)
        return torch.device(card.device if card else "cpu")
