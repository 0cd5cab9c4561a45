"""Settings of a training, read from a TOML file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.common.shown import name_of, quoted
from DeepIterRegLib.registration.network.draws import SamplingSettings
from DeepIterRegLib.registration.network.model import NetworkSettings


@dataclass(frozen=True)
class LearningSettings:
    """How the network learns.

    Attributes
    ----------
    heads
        Phantom heads to train on.
    patient
        CTA, or vein mask, to train on instead: fine-tuning to one patient. Empty for none.
    start_from
        Weights (.safetensors) to start from. Empty for none.
    batch, batches, epochs
        Images a step, steps an epoch, epochs.
    minutes
        Stop after so long, where one cycle of the rate then ends too; 0 for no limit.
    patience
        Stop after so many epochs without gain; 0 for never.
    rate, schedule, weight_decay, clip
        AdamW's rate, constant or one cycle up and down; largest norm of the gradient.
    pose_weight
        Lambda of A eq. 9, per mm.
    lever_mm
        A turn by one radian counts as so many mm.
    dice_pool
        Side of the squares of px that Dice is taken over.
    loss_points
        Points of the CTA's veins that are rendered for the loss.
    judged
        Samples that judge after each epoch.
    workers
        Processes that make samples; 0 for none beside the training itself. On a CUDA card they are made there, whatever this is.
    accelerator, devices, nodes, precision
        As Lightning's Trainer takes them: `auto`, `cpu`, `gpu`; `auto` or a number; computers; `32-true`, `bf16-mixed`.
    seed
    """

    heads: int = 400
    patient: str = ""
    start_from: str = ""
    batch: int = 32
    batches: int = 625
    epochs: int = 20
    minutes: float = 0.0
    patience: int = 0
    rate: float = 1e-3
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    weight_decay: float = 1e-2
    clip: float = 1.0
    pose_weight: float = 0.01
    lever_mm: float = 100.0
    dice_pool: int = 4
    loss_points: int = 3000
    judged: int = 512
    workers: int = 1
    accelerator: str = "auto"
    devices: str | int = "auto"
    nodes: int = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        problems = []
        for name in ("heads", "batch", "batches", "epochs", "dice_pool", "loss_points", "judged", "nodes"):
            if getattr(self, name) < 1:
                problems.append(f"training.{name} is {getattr(self, name)}: give 1 or more.")
        for name in ("minutes", "patience", "weight_decay", "clip", "pose_weight", "workers", "seed"):
            if getattr(self, name) < 0:
                problems.append(f"training.{name} is {getattr(self, name)}: give 0 or more.")
        for name in ("rate", "lever_mm"):
            if not getattr(self, name) > 0:
                problems.append(f"training.{name} is {getattr(self, name)}: give a number above 0.")
        if self.schedule not in ("one_cycle", "constant"):
            problems.append(f"training.schedule is {_shown(self.schedule)}: give one_cycle or constant.")
        if self.precision not in ("32-true", "bf16-mixed", "16-mixed"):
            problems.append(f"training.precision is {_shown(self.precision)}: give 32-true, bf16-mixed or 16-mixed.")
        if problems:
            raise InputError(problems)


@dataclass(frozen=True)
class TrainSettings:
    """All that decides a training: the network, its samples, how it learns."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    training: LearningSettings = field(default_factory=LearningSettings)


def read_settings(path: Path) -> TrainSettings:
    """Settings from a TOML file with the tables [network], [sampling] and [training]; what it leaves out is as by default.

    Raises
    ------
    InputError
        Absent, no TOML, unknown names, or values that make no sense, all of them at once.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"Settings {name_of(path)} do not exist: give a TOML file, such as Resources/Models/initial_pose.toml."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Settings {name_of(path)} cannot be read as TOML{_where(error)}: give a TOML file.") from None
    return settings_from(tables, name_of(path))


def training_settings(config: Path | None, patient: Path | None, weights: Path | None, minutes: float) -> TrainSettings:
    """Settings as the command line gives them: of a file, or those that ship, with what was said beside it.

    Raises
    ------
    InputError
        See `read_settings`; or a CTA or weights that are not there.
    """
    absent = [path for path in (patient, weights) if path and not path.exists()]
    if absent:
        raise InputError(f"{name_of(path)} does not exist: give its path." for path in absent)
    settings = read_settings(config or MODELS / ("patient.toml" if patient else "initial_pose.toml"))
    if patient and not weights and not settings.training.start_from:
        weights = MODELS / "initial_pose.safetensors"
    said: dict[str, Any] = {}
    if patient:
        said["patient"] = str(patient.absolute())
    if weights:
        said["start_from"] = str(weights.absolute())
    if minutes:
        said["minutes"] = minutes
    return replace(settings, training=replace(settings.training, **said))


def settings_from(tables: dict[str, Any], origin: str) -> TrainSettings:
    """`TrainSettings` from plain tables; `origin` is named in errors."""
    problems: list[str] = []
    parts: dict[str, Any] = {}
    kinds = {"network": NetworkSettings, "sampling": SamplingSettings, "training": LearningSettings}
    for unknown in sorted(set(tables) - set(kinds)):
        problems.append(
            f"{origin} has a table {quoted(unknown, kinds)}; known are {', '.join(f'[{name}]' for name in kinds)}."
        )
    for name, kind in kinds.items():
        values = tables.get(name, {})
        if not isinstance(values, dict):
            problems.append(f"{origin}: {name} must be a table.")
            continue
        try:
            parts[name] = kind(**_values(kind, values, name, origin))
        except InputError as error:
            problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return TrainSettings(**parts)


def _values(kind: type, given: dict[str, Any], table: str, origin: str) -> dict[str, Any]:
    """The given values in the types of the dataclass `kind`."""
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    problems, values = [], {}
    for name, value in given.items():
        if name not in known:
            problems.append(
                f"{origin}: [{table}] has no setting {quoted(name, known)}; known are {', '.join(sorted(known))}."
            )
            continue
        wanted = hints[name]
        if isinstance(value, list):
            value = tuple(float(v) if isinstance(v, int) else v for v in value)
        elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not _fits(value, wanted):
            problems.append(f"{origin}: {table}.{name} is {_shown(given[name])}; {_wanted(wanted)} is needed.")
        values[name] = value
    if problems:
        raise InputError(problems)
    return values


def _fits(value: Any, wanted: Any) -> bool:
    arguments = getattr(wanted, "__args__", ())
    if wanted in (int, float, str):
        # For Python true is a whole number, for who writes a TOML file it is none.
        return isinstance(value, wanted) and not isinstance(value, bool)
    if getattr(wanted, "__origin__", None) is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(isinstance(v, float) for v in value)
    return value in arguments or any(isinstance(value, a) for a in arguments if isinstance(a, type))


def _wanted(wanted: Any) -> str:
    if wanted in (int, float, str):
        return {int: "a whole number", float: "a number", str: "text"}[wanted]
    if getattr(wanted, "__origin__", None) is tuple:
        return f"a list of {len(wanted.__args__)} numbers"
    return " or ".join(str(a.__name__ if isinstance(a, type) else repr(a)) for a in wanted.__args__)


def _shown(value: Any) -> str:
    """A value of a file for a message: text may be a path."""
    return quoted(value) if isinstance(value, str) else repr(value)


def _where(error: Exception) -> str:
    """The place that TOML's reader names, without what stands there."""
    found = re.search(r"\(at line \d+, column \d+\)", str(error))
    return f" {found.group()}" if found else ""
