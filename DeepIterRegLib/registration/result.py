"""What a registration is told and what it answers: plain data that round-trips through JSON."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from DeepIterRegLib.common.options import OLD_INITS
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.landmarks import LandmarkError

State = Literal["accepted", "look closely", "rejected"]


@dataclass(frozen=True)
class StageRecord:
    """One stage of the registration.

    Attributes
    ----------
    name, similarity
        As shown to people.
    score
        Best score reached; higher is better, comparable only within one stage.
    scores
        Trace: best score so far, after each iteration (search: after each level).
    seconds, iterations
    """

    name: str
    similarity: str
    score: float
    scores: tuple[float, ...]
    seconds: float
    iterations: int


@dataclass(frozen=True)
class InitRecord:
    """Where the refinement started.

    `score` and `score_radiological` are ZNCC of the vessels and their directions at the proposed and the radiological pose;
    the proposal is accepted only if it is not lower (A eq. 12).
    """

    method: str
    accepted: bool
    score: float
    score_radiological: float


@dataclass(frozen=True)
class Confidence:
    """How far to trust a registration; see `confidence.assess`.

    Attributes
    ----------
    probability
        That the MPE is below 5 mm, calibrated on phantoms, 0..1.
    expected_error_mm
        MPE to expect, mm on the detector: the median of right registrations that look like this one. None where it is rejected.
    state
        For people. A rejected result shows no overlay unless asked for.
    reasons
        Sentences: what speaks against it.
    features
        What the model saw.
    error_68_mm, error_95_mm
        Intervals in which 68 % and 95 % of the MPEs of such registrations lie, if they are right.
    depth_68_mm, depth_95_mm
        How far off along the first view's beam, at most, the head lies in 68 % and 95 % of them; None where headers were corrected.
    """

    probability: float
    expected_error_mm: float | None
    state: State
    reasons: tuple[str, ...]
    features: dict[str, float] = field(default_factory=dict)
    error_68_mm: tuple[float, float] | None = None
    error_95_mm: tuple[float, float] | None = None
    depth_68_mm: float | None = None
    depth_95_mm: float | None = None

    @classmethod
    def from_json_dict(cls, values: dict[str, Any]) -> Confidence:
        """From the plain values in registration.json; those of earlier versions have no intervals."""
        pairs = {
            name: None if (ends := values.get(name)) is None else tuple(ends) for name in ("error_68_mm", "error_95_mm")
        }
        return cls(**{**values, **pairs, "reasons": tuple(values["reasons"])})

    @property
    def summary(self) -> str:
        """State, probability and error in a sentence."""
        said = f"{self.state.upper()}: {percent(self.probability)} likely to be right (within 5 mm)"
        return f"{said}, {self.error_words}." if self.error_words else f"{said}."

    @property
    def error_words(self) -> str:
        """The error to expect, with its intervals where there are any; empty where it is rejected."""
        if self.state == "rejected" or self.expected_error_mm is None:
            return ""
        words = f"expected error {self.expected_error_mm:.1f} mm"
        if self.error_95_mm is not None:
            words += f" ({self.error_95_mm[0]:.1f} to {self.error_95_mm[1]:.1f} mm in 95 %)"
        if self.depth_95_mm is not None:
            words += f", along the beam at most {self.depth_95_mm:.1f} mm in 95 %"
        return words


def percent(probability: float) -> str:
    """A probability as people say it; never certainty."""
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


@dataclass(frozen=True)
class ViewRecord:
    """One view of a registration.

    Attributes
    ----------
    name
        As shown to people: number and direction, `DSA 2 (lateral)`.
    carm
        On the grid of the DSA; with `changes`, where there were any.
    score
        As `Registration.score`, of this view alone.
    axis_error_mm
        How well the head's place is determined along the view's own u (columns), v (rows) and beam: standard deviation, mm,
        from the curvature of all views' scores; None where it was not asked for. Comparable over cases, but no bound on
        what a wrong match is off by.
    mpe_mm_to_reference
        MPE in this view against a reference pose, where there was one.
    changes
        How the head lies in this view, by its header, against the pose (see `between_views`): by name, deg and mm along the view's
        u, v and beam. In `carm` it is the opposite motion of the C-arm. Empty where nothing was corrected.
    frames
        How the head lies in each frame of the run; None where it was not looked for, and in files of earlier versions.
    """

    name: str
    carm: CArm
    score: float
    axis_error_mm: tuple[float, float, float] | None = None
    mpe_mm_to_reference: float | None = None
    changes: dict[str, float] = field(default_factory=dict)
    frames: FrameMotion | None = None

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        error, frames = self.axis_error_mm, self.frames
        return {
            **values,
            "carm": self.carm.to_dict(),
            "axis_error_mm": None if error is None else list(error),
            "frames": None if frames is None else frames.to_json_dict(),
        }

    @classmethod
    def from_json_dict(cls, values: dict[str, Any]) -> ViewRecord:
        """Inverse of `to_json_dict`."""
        error, frames = values["axis_error_mm"], values.get("frames")
        return cls(
            **{
                **values,
                "carm": CArm.from_dict(values["carm"]),
                "axis_error_mm": None if error is None else (float(error[0]), float(error[1]), float(error[2])),
                "frames": None if frames is None else FrameMotion.from_json_dict(frames),
            }
        )


@dataclass(frozen=True)
class Registration:
    """Answer of `pipeline.register`.

    Attributes
    ----------
    cta_to_carm : (4, 4) float64
        RAS mm, x_carm = M x_cta.
    carm
        The first view, on the grid of the DSA.
    centre_cta_mm : (3,)
        Centre of the CTA's voxel grid, RAS mm.
    score
        ZNCC of vessels and their directions, CTA against DSA, at the final pose, -1..1; right poses of phantoms have 0.26 to 0.63.
        Of the first view.
    views
        Every view, in the order given; `carm`, `score` and `mpe_mm_to_reference` are those of the first.
    seconds
        Wall time by part: segmentation, search, refinement, total.
    confidence
        How far to trust it; None in files of earlier versions.
    landmarks
        How far the landmarks that a person paired lie from where the pose puts them.
    computed_on
        The device that computed search, refinement and confidence.
    """

    cta_to_carm: np.ndarray
    carm: CArm
    centre_cta_mm: np.ndarray
    score: float
    init: InitRecord
    stages: tuple[StageRecord, ...]
    seconds: dict[str, float]
    warnings: tuple[str, ...]
    settings: dict[str, Any]
    versions: dict[str, str]
    mpe_mm_to_reference: float | None = None
    landmarks: tuple[LandmarkError, ...] = ()
    input_hashes: dict[str, str] = field(default_factory=dict)
    views: tuple[ViewRecord, ...] = ()
    confidence: Confidence | None = None
    computed_on: str = "CPU"

    def __post_init__(self) -> None:
        # Files of versions before several views have none: their one view is made of what they say of it.
        first, *further = self.views or (ViewRecord("DSA 1", self.carm, self.score),)
        first = replace(first, carm=self.carm, score=self.score, mpe_mm_to_reference=self.mpe_mm_to_reference)
        object.__setattr__(self, "views", (first, *further))

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values for registration.json; the pose is `ctaToCarm`, 4x4 row-major, RAS mm."""
        values = {k: v for k, v in asdict(self).items() if k not in ("cta_to_carm", "centre_cta_mm", "carm", "views")}
        return {
            "ctaToCarm": np.asarray(self.cta_to_carm).tolist(),
            "carm": self.carm.to_dict(),
            "centre_cta_mm": np.asarray(self.centre_cta_mm).tolist(),
            **values,
            "views": [view.to_json_dict() for view in self.views],
            "notice": "Research use only. Not a medical device.",
        }

    @classmethod
    def from_json_dict(cls, values: dict[str, Any]) -> Registration:
        """Inverse of `to_json_dict`."""
        return cls(
            cta_to_carm=np.array(values["ctaToCarm"], dtype=np.float64),
            carm=CArm.from_dict(values["carm"]),
            centre_cta_mm=np.array(values["centre_cta_mm"], dtype=np.float64),
            score=float(values["score"]),
            # `get` for what files of earlier versions do not have; old names of starts are read too.
            views=tuple(ViewRecord.from_json_dict(view) for view in values.get("views", ())),
            init=InitRecord(**{**values["init"], "method": OLD_INITS.get(method := values["init"]["method"], method)}),
            stages=tuple(StageRecord(**{**s, "scores": tuple(s["scores"])}) for s in values["stages"]),
            seconds=dict(values["seconds"]),
            warnings=tuple(values["warnings"]),
            settings=dict(values["settings"]),
            versions=dict(values["versions"]),
            mpe_mm_to_reference=values["mpe_mm_to_reference"],
            landmarks=tuple(LandmarkError(**error) for error in values.get("landmarks", ())),
            input_hashes=dict(values["input_hashes"]),
            computed_on=values.get("computed_on", "CPU"),
            confidence=None if (sure := values.get("confidence")) is None else Confidence.from_json_dict(sure),
        )


def hash_name(view: int) -> str:
    """What `Registration.input_hashes` calls the run of a view, counted from 0: dsa, dsa2, ..."""
    return "dsa" if view == 0 else f"dsa{view + 1}"


def content_hash(*arrays: np.ndarray) -> str:
    """What `Registration.input_hashes` keeps of an input, arrays (...) of any shape, to know it again."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def file_hash(path: str | Path) -> str:
    """What results and cards keep of a file: its content, as its path may name a patient; empty if it cannot be read."""
    try:
        return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"
    except OSError:
        return ""
