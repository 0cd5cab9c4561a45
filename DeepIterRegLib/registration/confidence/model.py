"""Features to a calibrated probability, an expected error and a state: plain numbers in JSON, checked by their hash."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED
from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.registration.result import State

FORMAT = "DeepIterReg confidence 1"
T = TypeVar("T")
SHIPPED = MODELS / "confidence.json"
SHIPPED_SKULL = MODELS / "confidence_skull.json"
SHIPPED_RESIDUE = MODELS / "confidence_residue.json"


@dataclass(frozen=True)
class Linear:
    """A weighted sum of features, each cut to a range and supplied to one scale.

    Attributes
    ----------
    intercept
    low, high, middle, spread, weight : (F,)
        Of each feature: (clip(x, low, high) - middle) / spread times weight.
    """

    intercept: float
    low: np.ndarray
    high: np.ndarray
    middle: np.ndarray
    spread: np.ndarray
    weight: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Sums (B,) of features (B, F)."""
        total: np.ndarray = self.intercept + (np.clip(x, self.low, self.high) - self.middle) / self.spread @ self.weight
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain lists, 7 digits."""
        arrays = {name: [_short(v) for v in getattr(self, name)] for name in _ARRAYS}
        return {"intercept": _short(self.intercept), **arrays}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Linear:
        """Inverse of `to_json`; raises ValueError where lengths differ or a number is not finite."""
        arrays = [np.array(values[name], dtype=np.float64) for name in _ARRAYS]
        if len({len(array) for array in arrays}) != 1 or not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("its numbers do not fit together")
        return cls(float(values["intercept"]), *arrays)


_ARRAYS = ("low", "high", "middle", "spread", "weight")


@dataclass(frozen=True)
class ConfidenceModel:
    """The model.

    Attributes
    ----------
    names
        Features, in the order of the weights.
    right, error
        Log odds of "MPE below 5 mm", and natural logarithm of the expected MPE in mm.
    slope, intercept
        Platt's calibration of the log odds.
    accept, reject
        Accepted at or above the former probability, rejected below the latter.
    typical
        Feature to the range in which nine tenths of right registrations lie.
    """

    names: tuple[str, ...]
    right: Linear
    error: Linear
    slope: float
    intercept: float
    accept: float
    reject: float
    typical: dict[str, tuple[float, float]]

    def predict(self, features: Mapping[str, float]) -> tuple[float, float]:
        """Probability that the MPE is below 5 mm, and the expected MPE in mm."""
        x = np.array([[features[name] for name in self.names]])
        odds = self.slope * float(self.right(x)[0]) + self.intercept
        # Bounded, as `exp` overflows; at 30 nothing is left to tell from certainty.
        probability = 1 / (1 + math.exp(-min(max(odds, -30.0), 30.0)))
        return probability, float(np.exp(self.error(x)[0]))

    def state(self, probability: float) -> State:
        """The state for people."""
        if probability >= self.accept:
            return "accepted"
        return "rejected" if probability < self.reject else "look closely"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "names": list(self.names),
            "right": self.right.to_json(),
            "error": self.error.to_json(),
            "slope": self.slope,
            "intercept": self.intercept,
            "accept": self.accept,
            "reject": self.reject,
            "typical": {name: list(ends) for name, ends in self.typical.items()},
        }


def save_model(model: ConfidenceModel, path: Path, card: dict[str, Any]) -> None:
    """Write the model with its hash and its card: what it was trained on, by what, and how well it does."""
    written_model(path, FORMAT, card, model.to_json())


def written_model(path: Path, format_name: str, card: dict[str, Any], values: dict[str, Any]) -> None:
    """Write plain values with their format, their hash and their card."""
    parts = {"format": format_name, "sha256": content_hash(values), "card": card}
    head = json.dumps(parts, indent=2).removesuffix("\n}")  # for people; the numbers stand on one line
    path.with_suffix(".part").write_text(f'{head},\n  "model": {json.dumps(values)}\n}}\n', encoding="utf-8")
    path.with_suffix(".part").rename(path)


@lru_cache(maxsize=4)
def load_model(path: Path = SHIPPED) -> ConfidenceModel:
    """The model of a file.

    Raises
    ------
    InputError
        Absent, not ours, or changed (hash).
    """

    def read(values: Any) -> ConfidenceModel:
        return ConfidenceModel(
            tuple(values["names"]),
            Linear.from_json(values["right"]),
            Linear.from_json(values["error"]),
            float(values["slope"]),
            float(values["intercept"]),
            float(values["accept"]),
            float(values["reject"]),
            {name: (float(low), float(high)) for name, (low, high) in values["typical"].items()},
        )

    return read_model(path, FORMAT, "confidence model", read)


def read_model(path: Path, format_name: str, what: str, read: Callable[[Any], T]) -> T:
    """What `read` makes of the plain values in a file of `written_model`; `what` it is called.

    Raises
    ------
    InputError
        Absent, not of the format, or changed (hash).
    """
    if not path.is_file():
        raise InputError(f"The {what} {path.name} is missing in {path.parent}: install DeepIterReg again.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != format_name:
            raise InputError(f"{path.name} is not a {what} of this version ({format_name}).")
        if content_hash(content["model"]) != content["sha256"]:
            raise InputError(
                f"The {what} {path.name} is not what it says (SHA-256 differs): the file was changed; copy it again, or install "
                "DeepIterReg again."
            )
        return read(content["model"])
    except (OSError, *MALFORMED) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The {what} {path.name} cannot be read: copy it again.") from error


def content_hash(values: dict[str, Any]) -> str:
    """SHA-256 of plain values, however they are written."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _short(value: float) -> float:
    return float(f"{value:.7g}")
