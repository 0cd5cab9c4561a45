"""Patients never used in tuning, in rows of rising difficulty, with one view and with two: how many are registered, and does depth hold?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table, verdict

SEEDS, SMALL_SEEDS = range(5000, 5100), range(40, 42)
ROTATION_DEG, TRANSLATION_MM = 35.0, 40.0
# What is asked of each row: share below 5 mm and median MPE with one view, share and median mTRE with two.
ROWS = {
    "one territory": (0.98, 0.8, 1.00, 1.0),
    "occluded": (0.95, None, 0.99, None),
    "arterial phase": (0.90, None, 0.97, None),
    "few vessels": (0.85, None, 0.95, None),
}
NOTES = {
    "one territory": "one injected territory, its occlusion and motion as in [robustness](robustness.md)",
    "occluded": "a carotid injected, M1 occluded, head moving up to 2 mm and 2 deg, 30 % of the small vessels without contrast",
    "arterial phase": "the run stopped after 3 to 4 s: no veins",
    "few vessels": "before thrombectomy: carotid injected, M1 occluded, 60 % of the small vessels without contrast, stopped after 3 to 4 s",
}
SMALL_RADIUS_MM = 0.7
BEFORE = (
    "Before the skull was also looked for reversed in depth and a second time (949c2a8ad8), on 100 other patients a row (seeds 4000 to "
    "4099): 99, 100, 99 and 96 with one view, 99, 100, 100 and 100 with two; none of the wrong ones was accepted."
)
STRANGER_MM = 60.0  # what the "error" of a stranger's CTA counts as, of which no pose is right


def settings_of(row: str, small: bool) -> Any:
    """Phantom settings of a row; in all of them the skull of the run differs from that of the CTA (jaw, headrest, blur)."""
    import robustness

    from DeepIterRegLib.phantom.settings import DIFFERENT_SKULL

    base = robustness.phantom_settings(small)
    run = base.run
    if row in ("occluded", "few vessels"):
        run = replace(
            run,
            injections=("left_ica", "right_ica"),
            injection_weights=(0.5, 0.5),
            occlusions=("M1",),
            occlusion_weights=(1.0,),
        )
    if row == "occluded":
        run = replace(run, motion_mm=2.0, motion_deg=2.0)
    if row in ("arterial phase", "few vessels"):
        run = replace(run, duration_s=(3.0, 4.0), frames_per_s=(3.0, 4.0))
    return replace(base, run=run, skull=DIFFERENT_SKULL)


def without(patient: Any, share: float, rng: np.random.Generator) -> Any:
    """The patient with a share of the small vessels' pieces, and what lies beyond them, not reached by contrast."""
    vessels = patient.centrelines
    if share <= 0:
        return patient
    small = (vessels.radius_mm < SMALL_RADIUS_MM) & ~vessels.vein
    # A tree loses a branch where it becomes small: everything downstream of that node goes with it.
    parent = vessels.parent
    begins = small & (parent >= 0) & ~small[np.maximum(parent, 0)]
    lost = begins & (rng.random(len(parent)) < share)
    for node in np.flatnonzero(parent >= 0):  # a parent stands before its children
        lost[node] |= lost[parent[node]]
    return replace(patient, occluded=patient.occluded | lost)


@dataclass(frozen=True)
class Made:
    """A patient of a row, as read from files and segmented; `truths` are where the head stood in each run's mask frame."""

    cta: Any
    runs: tuple[Any, Any]
    vessels: Any
    masks: tuple[Any, Any]
    truth: np.ndarray
    truths: tuple[np.ndarray, np.ndarray]
    centreline_mm: np.ndarray
    facts: dict[str, Any]


def views_of(row: str, seed: int, settings: Any) -> list[Any]:
    """A patient of a row, with a run from the front and one from the side, in turn by chance; each row has patients of its own."""
    from DeepIterRegLib.phantom import make_patient, second_run

    number = list(ROWS).index(row)
    # The patient's own run is not used: both views are further runs, AP and lateral.
    short = replace(settings.run, duration_s=(2.0, 2.0))
    patient = replace(make_patient(seed + 100 * number, replace(settings, run=short)), settings=settings)
    rng = np.random.default_rng([seed, number])
    patient = without(patient, {"occluded": 0.3, "few vessels": 0.6}.get(row, 0.0), rng)
    return [second_run(patient, view, seed=n) for n, view in enumerate(rng.permutation(["ap", "lateral"]))]


def make(row: str, seed: int, small: bool, settings: Any = None) -> Made:
    """CTA and both runs to files and back; by other phantom settings than the cohort's, if given."""
    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegLib.phantom import write_patient
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    views = views_of(row, seed, settings or settings_of(row, small))
    patient = views[0]
    with tempfile.TemporaryDirectory() as folder:
        write_patient(views[0], folder, views[1])
        cta = prepare_cta(load_volume(Path(folder, "cta.nii.gz")))
        first, second = (read_angiogram(Path(folder, name)) for name in ("dsa.dcm", "dsa2.dcm"))
    # Frames are supplied to the mask frame before subtraction: there the head stands in what is shown and registered.
    at_mask = [view.run.motion[view.run.mask_frames[0]] @ view.cta_to_carm for view in views]
    facts = {
        "injection": patient.run.injection,
        "occlusion": patient.occlusion,
        "first": "lateral" if abs(views[0].carm.beam_axis[0]) > abs(views[0].carm.beam_axis[1]) else "AP",
    }
    return Made(
        cta,
        (first, second),
        segment_vessels(cta),
        (segment_dsa(first), segment_dsa(second)),
        patient.cta_to_carm,
        (at_mask[0], at_mask[1]),
        patient.centrelines.points_mm,
        facts,
    )


def make_all(seed: int, small: bool) -> dict[str, Made | str]:
    """The patient of each row; where a run shows no vessel, what the program says of it."""
    from DeepIterRegLib.common.errors import InputError

    made: dict[str, Made | str] = {}
    for row in ROWS:
        try:
            made[row] = make(row, seed, small)
        except InputError as error:
            made[row] = str(error)
    return made


def make_in_turn(seed: int, small: bool) -> tuple[str, Made | None]:
    """A row by the seed, as rows take turns, and its patient; None where a run shows no vessel."""
    from DeepIterRegLib.common.errors import InputError

    row = list(ROWS)[seed % len(ROWS)]
    try:
        return row, make(row, seed, small)
    except InputError:
        return row, None


def by_default(patient: Made | str) -> Result:
    """Facts of a patient, and its registrations by one view and by both."""
    if isinstance(patient, str):
        return {"first": "-", "injection": "-", "one": {"error": patient}, "two": {"error": patient}}
    veins = [bool(masks.veins.any()) for masks in patient.masks]
    return {**patient.facts, "veins": veins, "one": registered(patient, 1), "two": registered(patient, 2)}


def run_case(case: Case) -> Result:
    """One patient in each row, registered by one view and by both."""
    made = make_all(case["seed"], case.get("small", False))
    return judged_only({"rows": {row: by_default(patient) for row, patient in made.items()}})


def off(made: Made, size: float, rng: np.random.Generator) -> np.ndarray:
    """A start (4, 4) up to `size` deg and mm from the truth on every axis."""
    from DeepIterRegLib.geometry import pose

    turn = pose.euler_deg_to_rotation(rng.uniform(-size, size, 3))
    return np.asarray(pose.offset_about(made.truths[0], made.cta.centre_mm, turn, rng.uniform(-size, size, 3)))


def registered(
    made: Made, count: int, init: str = "auto", start: np.ndarray | None = None, stranger: Made | None = None
) -> Result:
    """Errors, seconds and features of one registration by the first `count` views; of a stranger's CTA no pose is right."""
    from DeepIterRegLib.common.errors import RegistrationError
    from DeepIterRegLib.geometry import mpe_mm, pose
    from DeepIterRegLib.registration.pipeline import register
    from DeepIterRegLib.registration.settings import RegistrationSettings

    of, runs, masks = stranger or made, made.runs[:count], made.masks[:count]
    settings = RegistrationSettings.preset("default", init="file" if start is not None else init)  # type: ignore[arg-type]
    try:
        result = register(of.cta, runs, settings, cta_mask=of.vessels, dsa_masks=masks, initial_pose=start)
    except RegistrationError as refused:
        return {"error": str(refused)}
    confidence = result.confidence
    assert confidence is not None
    said = {
        "score": result.score,
        "seconds": result.seconds["total"],
        "features": confidence.features,
        "announced": announced_of(result),
    }
    if stranger is not None:
        return {"mpe_mm": STRANGER_MM, **said}
    cta, found, truth, line = made.cta, result.cta_to_carm, made.truths[0], made.centreline_mm
    shift = pose.transform(found, line) - pose.transform(truth, line)
    middle = pose.transform(found, cta.centre_mm[None])[0] - pose.transform(truth, cta.centre_mm[None])[0]
    seen = zip(runs, made.truths, result.views, strict=False)
    return {
        "mpe_mm": max(float(mpe_mm(a.carm, found, t, cta.centre_mm)) for a, t in zip(runs, made.truths, strict=False)),
        "overlay_mm": max(overlay_mm(a.carm, t, view.carm, found, cta.centre_mm) for a, t, view in seen),
        "mpe_at_peak_mm": max(float(mpe_mm(a.carm, found, made.truth, cta.centre_mm)) for a in runs),
        "mtre_mm": float(np.linalg.norm(shift, axis=1).mean()),
        "depth_mm": max(float(abs(middle @ np.asarray(a.carm.beam_axis))) for a in runs),
        "away_mm": float(middle @ np.asarray(runs[0].carm.beam_axis)),  # from the source of the first view
        "pose": [round(float(v), 6) for v in found[:3].ravel()],
        **said,
    }


def overlay_mm(true: Any, truth: np.ndarray, shown: Any, found: np.ndarray, centre_cta_mm: np.ndarray) -> float:
    """How far the overlay of a pose by the C-arm of a result lies from where the image shows the head: over a cube, as the MPE."""
    from DeepIterRegLib.geometry import cube_corners

    corners = cube_corners(centre_cta_mm)
    row_mm, column_mm = true.pixel_spacing_mm
    off = (shown.project(corners, found) - true.project(corners, truth)) * (column_mm, row_mm)
    return float(np.linalg.norm(off, axis=-1).mean())


def announced_of(result: Any) -> Result:
    """The error that is announced, in mm: middle and ends of its intervals; along the beam its deviation by curvature, and bounds."""
    confidence, axis_error = result.confidence, result.views[0].axis_error_mm
    if confidence.expected_error_mm is None or axis_error is None:
        return {}
    mm = (confidence.expected_error_mm, *confidence.error_68_mm, *confidence.error_95_mm)
    depth_mm = (axis_error[2], confidence.depth_68_mm, confidence.depth_95_mm)
    return {"mm": [round(v, 3) for v in mm], "depth_mm": [None if v is None else round(v, 3) for v in depth_mm]}


def by_row(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each patient's record, with its seed and row."""
    return [
        {"seed": record["case"]["seed"], "row": row, **of} for record in records for row, of in record["rows"].items()
    ]


def judged_only(result: Result) -> Result:
    """The record with what the models that ship say of each registration in place of its features, ten times their size.

    `predicted` holds probability and expected error in mm by the vessels and, where it was seen, by skull or residue.
    """
    rows = {row: {key: predicted_only(found) for key, found in of.items()} for row, of in result["rows"].items()}
    return {**result, "rows": rows}


def predicted_only(found: Any) -> Any:
    """A registration with what the models say of it in place of its features; what is none stays."""
    if not isinstance(found, dict) or "features" not in found:
        return found
    features = found["features"]
    models = models_of(features).items()
    predicted = {name: [float(f"{value:.5g}") for value in model.predict(features)] for name, model in models}
    return {**{key: value for key, value in found.items() if key != "features"}, "predicted": predicted}


def shipped_models() -> dict[str, Any]:
    """The models that ship, by what they see beside the vessels."""
    from DeepIterRegLib.registration.confidence.model import SHIPPED, SHIPPED_RESIDUE, SHIPPED_SKULL, load_model

    return {"vessels": load_model(SHIPPED), "residue": load_model(SHIPPED_RESIDUE), "skull": load_model(SHIPPED_SKULL)}


def models_of(features: Mapping[str, float]) -> dict[str, Any]:
    """Those that can judge by these features, the one that sees most last."""
    models = shipped_models().items()
    return {name: model for name, model in models if name == "vessels" or f"{name}_score" in features}


def said_of(found: dict[str, Any]) -> tuple[str, float]:
    """State and probability by the model that sees most."""
    name = list(found["predicted"])[-1]
    probability, _ = found["predicted"][name]
    return shipped_models()[name].state(probability), probability


def values(records: Sequence[dict[str, Any]], views: str, name: str) -> np.ndarray:
    """A figure of all records; a refusal is infinitely wrong."""
    return np.array([record[views].get(name, math.inf) for record in records], dtype=float)


def rows_of(records: Sequence[dict[str, Any]]) -> str:
    """The issue of each row with one and with two views."""
    import outcomes

    lines = []
    for row, (rate1, median1, rate2, mtre2) in ROWS.items():
        group = [record for record in records if record["row"] == row]
        if not group:
            continue
        for views, rate, median_mpe, median_mtre in (("one", rate1, median1, None), ("two", rate2, None, mtre2)):
            mpe, mtre, depth = (values(group, views, name) for name in ("mpe_mm", "mtre_mm", "depth_mm"))
            good = mpe < outcomes.SUCCESS_MM
            low, high = outcomes.wilson(int(good.sum()), len(good))
            seconds = [record[views]["seconds"] for record in group if "seconds" in record[views]]
            targets = [f"{100 * rate:.0f} %: {verdict(float(good.mean()) >= rate)}"]
            if median_mpe is not None:
                targets.append(f"MPE {median_mpe:g} mm: {verdict(float(np.median(mpe)) < median_mpe)}")
            if median_mtre is not None:
                targets.append(f"mTRE {median_mtre:g} mm: {verdict(float(np.median(mtre)) < median_mtre)}")
            if views == "two":
                targets.append(f"depth 1 mm: {verdict(float(np.median(depth)) <= 1.0)}")
            lines.append(
                [
                    row,
                    views,
                    f"{good.sum()} of {len(good)}",
                    f"{100 * max(low, 0.0):.0f} to {100 * high:.0f} %",
                    f"{np.median(mpe):.2f}",
                    f"{np.median(values(group, views, 'mpe_at_peak_mm')):.2f}",
                    f"{np.median(mtre):.2f}",
                    f"{np.median(depth):.2f}",
                    f"{np.median(seconds):.1f}",
                    "; ".join(targets),
                ]
            )
    header = [
        "row",
        "views",
        "below 5 mm",
        "95 % interval",
        "MPE mm",
        "MPE peak",
        "mTRE mm",
        "depth mm",
        "s",
        "targets",
    ]
    return table(header, lines)


def failures(records: Sequence[dict[str, Any]]) -> str:
    """Every case above 5 mm, with what the program said of it."""
    lines = []
    for record in records:
        for views in ("one", "two"):
            found = record[views]
            if found.get("mpe_mm", math.inf) < 5:
                continue
            mm = f"{found['mpe_mm']:.1f}" if "mpe_mm" in found else "refused"
            state, probability = said_of(found) if "predicted" in found else ("-", None)
            lines.append(
                [
                    record["row"],
                    record["seed"],
                    views,
                    record["first"] if views == "one" else "both",
                    record["injection"],
                    mm,
                    state,
                    "-" if probability is None else f"{probability:.2f}",
                ]
            )
    if not lines:
        return "No failures."
    return table(["row", "seed", "views", "view", "injection", "MPE mm", "said", "probability"], lines)


def states(records: Sequence[dict[str, Any]]) -> str:
    """Right and wrong registrations by what the program said of them."""
    lines = []
    for views in ("one", "two"):
        found = [record[views] for record in records if "predicted" in record[views]]
        said = [(state, one["mpe_mm"] < 5) for one in found for state, _ in [said_of(one)]]
        cells = [
            f"{said.count((state, True))} / {said.count((state, False))}"
            for state in ("accepted", "look closely", "rejected")
        ]
        lines.append([views, *cells, str(len(records) - len(found))])
    return table(["views", "accepted: right / wrong", "look closely", "rejected", "refused"], lines)


def settings_of_all(small: bool) -> dict[str, Any]:
    """All that decides a record besides its case."""
    from DeepIterRegLib.registration.settings import RegistrationSettings

    return {
        "phantom": {row: asdict(settings_of(row, small)) for row in ROWS},
        "registration": asdict(RegistrationSettings.preset("default")),
    }


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("cohort", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    seeds = SMALL_SEEDS if options.small else SEEDS
    cases: list[Case] = [{"seed": seed, **({"small": True} if options.small else {})} for seed in seeds]
    records = benchmarking.run_cases("cohort", cases, run_case, settings_of_all(options.small), options)
    patients = by_row(records)
    body = "\n\n".join(
        [
            "CTA and two runs (AP and lateral) of each patient written to files and read back, vessels by our own segmentation of all, "
            f"`register` with the default preset; head offset uniform within +-{ROTATION_DEG:g} deg and +-{TRANSLATION_MM:g} mm on "
            "every axis. The skull of the runs differs from the CTA's: jaw opened up to 10 deg, headrest and wires, beam hardening, a "
            "blurred CT. One view: the first of the two, AP or lateral by chance. MPE is that of the worse view, against where the head "
            "stood in its mask frame, to which all frames are supplied before subtraction; at peak contrast it may stand elsewhere "
            "(MPE peak). mTRE is over all points of the vessels' centrelines; depth is the error of the CTA's centre along the beam. "
            "Medians count failures.",
            BEFORE,
            "\n".join(f"- {row}: {note}" for row, note in NOTES.items()),
            rows_of(patients),
            "## What the program said",
            states(patients),
            "## Above 5 mm",
            failures(patients),
        ]
    )
    benchmarking.write_result("cohort", f"Cohort: {len(records)} patients a row", body, options, records)


if __name__ == "__main__":
    main()
