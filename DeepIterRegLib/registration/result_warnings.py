"""What a reader of a result must know: each view's score and certainty, and the warnings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.geometry import SUCCESS_MM, pose
from DeepIterRegLib.geometry.view_names import view_direction
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.registration.between_views import Contradiction, Corrected
from DeepIterRegLib.registration.result import InitRecord, ViewRecord
from DeepIterRegLib.registration.scene import Scene, view_znccs
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.skull import SkullAgreement
from DeepIterRegLib.registration.vessels.alignment import pose_covariances
from DeepIterRegLib.registration.vessels.targets import REFINE, make_targets

# On the phantoms 95 % of random poses score below 0.05 to 0.15, by patient, and right poses 0.28 to 0.62: below this ZNCC
# nothing was matched. What a search finds with another patient's DSA scores 0.23 to 0.50: that no score can tell.
NO_MATCH = 0.15
# Resolution at which `ViewRecord.axis_error_mm` is found: that of the refinement's first level.
_ERROR_ROWS, _ERROR_POINTS, _ERROR_SIGMA_PX = 256, 30000, 1.0
# A reader is told of a larger one: two of them use up what counts as a success.
_POORLY_DETERMINED_MM = SUCCESS_MM / 2
# Log of the likelihood ratio from which a reader is told that the head moved between the runs: a skull that looks a little different in
# the run than in the CTA reaches 19.
_SURELY_MOVED = 20.0
_WORTH_SAYING = 0.2  # deg or mm
# Of turns drawn from a box of Euler angles 99 % have an angle below so many of its half widths: a larger one lies outside.
_BOX_ANGLE = 1.6
CARD_FULL = (
    "The graphics card had too little memory left. The CPU computed the rest, with the same result in more time."
)
SKULL_ONLY = (
    "The vessels hardly match, only the skull does: check that the masks show vessels, "
    "and that the CTA's mask has those of the DSA."
)


def refuse_no_match(score: float, skull: dict[int, SkullAgreement]) -> None:
    """Refuse a pose that neither the vessels speak for nor the skull, in every run whose mask frame shows it."""
    if score > NO_MATCH or (skull and all(agreement.fits for agreement in skull.values())):
        return
    raise RegistrationError(
        f"No pose of the CTA explains the DSA (ZNCC of the vessels is {score:.3f}). Check that both are of the same patient, and that "
        "angles, SID and SOD are right. Look at the vessels found in both."
    )


def view_records(
    scene: Scene, cta_to_carm: np.ndarray, corrected: Corrected | None, settings: RegistrationSettings
) -> tuple[ViewRecord, ...]:
    """Score of each view at a pose (4, 4), how well the pose is determined along its axes, and what was corrected."""
    scores = view_znccs(scene, cta_to_carm[None], settings.search.saturation_mm, settings.seed)[:, 0]
    covariances = view_covariances(scene, cta_to_carm, settings)
    changes = corrected.changes if corrected else [{} for _ in scene.views]
    records = []
    for number, (view, score, covariance, change) in enumerate(
        zip(scene.views, scores, covariances, changes, strict=True), 1
    ):
        u, v, beam = (float(error) for error in np.sqrt(np.diag(covariance)[3:]))
        name = f"DSA {number} ({view_direction(view.carm)})"
        records.append(ViewRecord(name, view.carm, float(score), (u, v, beam), changes=change))
    return tuple(records)


def view_covariances(scene: Scene, cta_to_carm: np.ndarray, settings: RegistrationSettings) -> tuple[np.ndarray, ...]:
    """How well all views together determine a pose (4, 4): `pose_covariances`, (6, 6) along the axes of each view."""
    drawn = scene.points.subset(_ERROR_POINTS, np.random.default_rng(settings.seed))
    targets = make_targets(scene.views, _ERROR_ROWS, _ERROR_SIGMA_PX, REFINE)
    return pose_covariances(drawn, cta_to_carm, targets, settings.search.saturation_mm)


def contradiction_warning(found: Contradiction) -> str:
    """What a reader must know of views that contradict each other too much to be corrected."""
    return (
        f"The DSAs contradict each other by more than headers are off and heads move ({found.deviations:.0f} times the usual), so "
        "nothing was corrected: check that they are of the same patient, and their angles, SID and SOD."
    )


def warnings_of_corrections(views: Sequence[ViewRecord], corrected: Corrected | None) -> tuple[str, ...]:
    """How far the views contradict each other, in words, where headers were corrected or the head surely moved."""
    if corrected is None or not (corrected.of_headers or corrected.log_ratio >= _SURELY_MOVED):
        return ()
    why = (
        "One of the headers is off, or the head moved between the runs. Each overlay follows its own image, but how the head is turned in "
        "3D is uncertain by about as much."
        if corrected.of_headers
        else "The head moved between the runs, or a header is a little off. Each overlay follows its own image."
    )
    by_view = []
    for view in views:
        turn_deg, shift_mm = (
            float(np.linalg.norm([value for name, value in view.changes.items() if name.startswith(kind)]))
            for kind in ("head_turn", "head_shift")
        )
        if max(turn_deg, shift_mm) >= _WORTH_SAYING:
            by_view.append(f"{view.name} shows the head {turn_deg:.1f} deg and {shift_mm:.1f} mm from the pose found")
    if not by_view:
        return ()
    return (
        f"The DSAs contradict each other and were corrected: by its header {', '.join(by_view)} (log likelihood ratio "
        f"{corrected.log_ratio:.0f}). {why}",
    )


def result_warnings(
    angiograms: Sequence[Angiogram],
    views: Sequence[ViewRecord],
    init: InitRecord,
    found: np.ndarray,
    radiological: np.ndarray,
    settings: RegistrationSettings,
) -> tuple[str, ...]:
    """What a reader of the result must know; the poses `found` and `radiological` are (4, 4), ``cta_to_carm``."""
    several = len(views) > 1
    warnings = [
        within(note, f"{view.name}: " if several else "")
        for view, run in zip(views, angiograms, strict=True)
        for note in run.notes
    ]
    if several:
        warnings.extend(
            f"{view.name} hardly matches at the common pose (ZNCC of the vessels is {view.score:.3f}): the head moved between "
            "the runs, its geometry is wrong, or it is of another patient."
            for view in views
            if not view.score > NO_MATCH
        )
    worst = max((view.axis_error_mm or (0.0,))[-1] for view in views)
    if worst > _POORLY_DETERMINED_MM:
        more = "views from sides further apart fix" if several else "a second view from another side fixes"
        warnings.append(f"How far along the beam the head lies is known only to about {worst:.0f} mm: {more} it.")
    if not init.accepted:
        warnings.append(
            f"The initial pose ({init.method}) scored {init.score:.3f}, below the radiological pose's {init.score_radiological:.3f}; "
            "the refinement started from the radiological pose."
        )
    offset = found @ pose.inverse(radiological)
    angle = float(np.degrees(pose.rotation_angle(offset[:3, :3])))
    if settings.init in ("search", "auto") and angle > _BOX_ANGLE * settings.search.rotation_deg:
        warnings.append(
            f"The head is turned by {angle:.0f} deg from the radiological pose, outside the search box: check the overlay."
        )
    return tuple(warnings)


def skull_agreements(scene: Scene, poses: np.ndarray) -> dict[int, SkullAgreement]:
    """What the skull says of a pose (4, 4), or each run's own (V, 4, 4), by the number of each run whose mask frame shows it."""
    try:
        return scene.skull.agreements(poses) if scene.skull else {}
    except InputError:  # no bone in the CTA: said where it was looked for
        return {}


def skull_warnings(agreements: dict[int, SkullAgreement], count: int) -> tuple[str, ...]:
    """Where the skull, uphill from the pose found, ends elsewhere."""
    return tuple(
        f"Skull and vessels disagree{f' in DSA {number}' if count > 1 else ''}: the skull fits best {agreement.distance_mm:.1f} mm (on "
        f"the detector) from the pose found (gradient correlation {agreement.best_score:.2f} there, {agreement.score:.2f} here): "
        "check the overlay."
        for number, agreement in agreements.items()
        if agreement.distance_mm > SUCCESS_MM
    )
