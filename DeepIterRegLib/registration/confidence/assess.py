"""One call: a registration's views and pose in, probability, expected error, state and reasons out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from DeepIterRegLib.geometry import SUCCESS_MM
from DeepIterRegLib.registration.confidence.features import AXES, AXIS_NAMES, MaskedView, features, residue_features
from DeepIterRegLib.registration.confidence.model import (
    SHIPPED,
    SHIPPED_RESIDUE,
    SHIPPED_SKULL,
    ConfidenceModel,
    load_model,
)
from DeepIterRegLib.registration.result import Confidence
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.points import Points

MAX_REASONS = 4
NO_REASON = "No single sign speaks against the result; together they leave it uncertain."
# What a feature outside of the range of right registrations means, said to a clinician; the side on which it is bad, -1
# below the range, 1 above.
REASONS: dict[str, tuple[int, str]] = {
    "gap_rival": (-1, "An independent search found another pose whose score is {rest:.0f} % of this one's."),
    "agree_share": (-1, "An independent search does not come to this pose."),
    "block_median_mm": (1, "In parts of the image the vessels of CTA and DSA lie about {value:.1f} mm apart."),
    "explained": (-1, "Only {percent:.0f} % of the DSA's vessels lie on vessels of the CTA."),
    "explained_large": (-1, "Of the DSA's larger vessels only {percent:.0f} % lie on vessels of the CTA."),
    "profile_contrast": (-1, "The CTA's vessels are hardly denser on the DSA's vessels than beside them."),
    "direction_agreement": (-1, "Where vessels of CTA and DSA meet, they often run in different directions."),
    "score": (-1, "The similarity of the vessels is low ({value:.2f})."),
    "score_above_controls": (-1, "Wrong poses on purpose score nearly as well as this one."),
    "shift_mm_kinds": (1, "Arteries and veins of the DSA do not want the same pose ({value:.0f} mm apart)."),
    "shift_mm_halves": (1, "The halves of the image do not want the same pose ({value:.0f} mm apart)."),
    "skull_score": (-1, "The skull of the CTA hardly fits the run's mask frame at this pose ({value:.2f})."),
    "skull_distance_mm": (1, "The skull fits the mask frame best {value:.1f} mm (on the detector) from this pose."),
    "residue_score": (-1, "The CTA's skull hardly fits the edges of bone that the head's motion left in the run."),
    "content_length": (-1, "The DSA shows few vessels."),
    "content_clipped": (1, "Many vessels are cut off at the edge of the image."),
    **{
        f"uncertain_{axis}": (1, f"The image hardly tells {AXIS_NAMES[axis]}.")
        for axis in AXES  # their own sentence, as the axis is what people act on
    },
}


def assess(
    points: Points,
    views: Sequence[MaskedView],
    cta_to_carm: np.ndarray,
    centre_cta_mm: np.ndarray,
    *,
    seed: int = 0,
    model: ConfidenceModel | None = None,
) -> Confidence:
    """How far to trust a pose.

    Parameters
    ----------
    points
        Vessels of the CTA.
    views
        Every view that was registered; the worst one decides where they differ.
    cta_to_carm : (4, 4)
        The pose found.
    centre_cta_mm : (3,)
        Of the CTA's grid: about it the independent search turns the head.
    model
        The one that ships, unless given.
    """
    model = model or load_model(SHIPPED)
    seen = features(points, views, cta_to_carm, centre_cta_mm, seed)
    probability, error_mm = model.predict(seen)
    state = model.state(probability)
    reasons = () if state == "accepted" else reasons_of(seen, model)
    return Confidence(probability, error_mm, state, reasons, {name: float(f"{v:.5g}") for name, v in seen.items()})


def with_skull(
    vessels: Confidence, score: float, best_score: float, distance_mm: float, model: ConfidenceModel | None = None
) -> Confidence:
    """The judgement by vessels and skull together, where a mask frame shows the skull.

    Parameters
    ----------
    vessels
        As from `assess`; its features are looked at again.
    score, best_score, distance_mm
        As in `SkullAgreement`: fit of the skull at the pose, at its own optimum nearby, and how far that is; of the run in
        which they disagree most.
    model
        The one that ships, unless given.
    """
    seen = {
        **vessels.features,
        "skull_score": score,
        "skull_distance_mm": distance_mm,
        "skull_loss": best_score - score,
        # The distance is itself an estimate of the error: on which side of the limit it lies counts most.
        "skull_beyond_mm": min(max(distance_mm - SUCCESS_MM, -1.0), 1.0),
    }
    return _judged(vessels, seen, model or load_model(SHIPPED_SKULL))


def with_residue(
    vessels: Confidence,
    skull: Skull,
    cta_to_carm: np.ndarray,
    centre_cta_mm: np.ndarray,
    *,
    seed: int = 0,
    model: ConfidenceModel | None = None,
) -> Confidence:
    """The judgement by vessels and by what moved bone left in runs that came subtracted, of a pose that was refined on both.

    It stays as it was where no run shows anything of bone. Of other poses, and of runs in which nothing moved, the model knows nothing.

    Parameters
    ----------
    vessels
        As from `assess`; its features are looked at again.
    skull
        Of the CTA, looked for in the runs.
    cta_to_carm, centre_cta_mm, model
        As of `assess`.
    """
    residue = residue_features(skull, cta_to_carm, centre_cta_mm, seed)
    if not residue:
        return vessels
    return _judged(vessels, {**vessels.features, **residue}, model or load_model(SHIPPED_RESIDUE))


def _judged(confidence: Confidence, seen: Mapping[str, float], model: ConfidenceModel) -> Confidence:
    """The confidence as a model finds it that has seen more."""
    probability, error_mm = model.predict(seen)
    state = model.state(probability)
    return replace(
        confidence,
        probability=probability,
        expected_error_mm=error_mm,
        state=state,
        reasons=() if state == "accepted" else reasons_of(seen, model),
        features={name: float(f"{v:.5g}") for name, v in seen.items()},
    )


def reasons_of(seen: Mapping[str, float], model: ConfidenceModel) -> tuple[str, ...]:
    """Sentences on what lies outside of the range of right registrations, the farthest first."""
    found = []
    for name, (bad, sentence) in REASONS.items():
        if name not in model.typical or name not in seen:
            continue
        low, high = model.typical[name]
        beyond = (low - seen[name] if bad < 0 else seen[name] - high) / max(high - low, 1e-6)
        if beyond > 0:
            found.append(
                (beyond, sentence.format(value=seen[name], percent=100 * seen[name], rest=100 - 100 * seen[name]))
            )
    found.sort(key=lambda item: -item[0])
    sentences = tuple(sentence for _, sentence in found[:MAX_REASONS])
    return sentences or (NO_REASON,)
