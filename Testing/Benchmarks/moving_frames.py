"""A head that moves within its run: how far the overlay of a single frame is off, still and following the head."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table, verdict

SEEDS, SMALL_SEEDS = range(7640, 7652), range(3, 4)
MOTION_MM, MOTION_DEG, OFFSET = 3.0, 3.0, (10.0, 10.0, 10.0)
TARGET = 0.5  # of the error of an overlay that stands still
FILLED = 0.15  # of undiluted contrast: a vessel that is seen
FEWEST = 200  # points of vessels that are seen, in a frame that counts
DETECTOR, SHOWN, SUBTRACTED = "raw, as the detector saw it", "raw, motion undone", "came subtracted"
STILL, IMAGE, HEAD = "still", "image's motion", "head's pose"


def phantom_settings(small: bool) -> Any:
    from robustness import phantom_settings

    from DeepIterRegLib.phantom.settings import OffsetSettings, ViewSettings

    settings = phantom_settings(small)
    run = replace(settings.run, motion_mm=MOTION_MM, motion_deg=MOTION_DEG)
    view = settings.view if small else ViewSettings(matrices=(512,))
    return replace(settings, run=run, view=view, offset=OffsetSettings(OFFSET, OFFSET))


def run_case(case: Case) -> Result:
    """One patient, whose run is registered as it is, and as if it had come subtracted."""
    from robustness import registration_settings

    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.dicom import SubtractionSettings, read_angiogram
    from DeepIterRegLib.phantom import make_patient, write_patient
    from DeepIterRegLib.registration.pipeline import register_head
    from DeepIterRegLib.registration.scene import Head
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    small = case.get("small", False)
    patient = make_patient(case["seed"], phantom_settings(small))
    with tempfile.TemporaryDirectory() as folder:
        write_patient(patient, folder)
        file = Path(folder, "dsa.dcm")
        raw = read_angiogram(file)
        subtracted = replace(read_angiogram(file, subtraction=SubtractionSettings(remask=False)), unsubtracted=None)
    cta = prepare_cta(patient.cta)
    head = Head(cta, segment_vessels(cta))
    errors: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for kind, run in (("raw", raw), ("subtracted", subtracted)):
        begin = time.process_time()
        found = register_head(head, [run], [segment_dsa(run)], registration_settings(small))
        facts[f"{kind}_cpu_s"] = round(time.process_time() - begin, 1)
        errors |= _errors(patient, run, found)
        if kind == "raw":
            motion = found.views[0].frames
            facts |= {"said_mm": motion and round(motion.moved_mm, 2), "positions": motion and len(motion.undone)}
            facts["frames_s"] = round(found.seconds.get("frames", 0.0), 2)
    return {**facts, "frames": len(raw.frames), "moved_mm": round(_moved_mm(patient), 2), "errors": errors}


def _seen(patient: Any) -> list[tuple[int, np.ndarray]]:
    """Frames in which contrast is seen, and the points (n, 3) of vessels that show it, RAS mm of the CTA."""
    run, times = patient.run, patient.run.frame_times_s
    injected_s = (len(run.mask_frames) - 0.5) * float(np.median(np.diff(times)))
    seen = []
    for frame, time_s in enumerate(times):
        points = patient.centrelines.points_mm[run.filling.at(time_s - injected_s) > FILLED]
        points = points[run.carm.contains(run.carm.project(points, run.motion[frame] @ patient.cta_to_carm))]
        if len(points) >= FEWEST:
            seen.append((frame, points))
    return seen


def _moved_mm(patient: Any) -> float:
    """How far apart vessels lie in the two frames that differ most, at the isocentre."""
    carm, points = patient.carm, patient.centrelines.points_mm[::20]
    poses = np.unique(patient.run.motion @ patient.cta_to_carm, axis=0)
    mm = np.array(carm.pixel_spacing_mm)[::-1] / carm.magnification
    at = np.array([carm.project(points, pose) for pose in poses]) * mm
    return float(np.linalg.norm(at[:, None] - at[None], axis=-1).mean(axis=-1).max())


def _errors(patient: Any, run: Any, found: Any) -> dict[str, dict[str, list[float]]]:
    """Mean over the vessels' points, mm on the detector, of each frame: by what frames show and how the overlay is drawn."""
    view, pose = found.views[0], found.cta_to_carm
    mm = np.array(view.carm.pixel_spacing_mm)[::-1]
    errors: dict[str, dict[str, list[float]]] = {}

    def note(shown: str, drawn: str, there: np.ndarray, truth: np.ndarray) -> None:
        off_mm = float(np.linalg.norm((there - truth) * mm, axis=1).mean())
        errors.setdefault(shown, {}).setdefault(drawn, []).append(round(off_mm, 2))

    for frame, points in _seen(patient):
        truth = patient.carm.project(points, patient.run.motion[frame] @ patient.cta_to_carm)
        still = view.carm.project(points, pose)
        if run.motion is None:
            note(SUBTRACTED, STILL, still, truth)
            continue
        field = run.motion.fields[frame]
        head, undone = still, field
        if view.frames is not None:
            position = view.frames.of_frame[frame]
            head, undone = view.carm.project(points, view.frames.cta_to_carm[position]), view.frames.undone[position]
        note(DETECTOR, STILL, still, truth)
        note(DETECTOR, IMAGE, still + _displaced(field, still, run), truth)
        note(DETECTOR, HEAD, head, truth)
        truth_shown = _back(field, truth, run)
        note(SHOWN, STILL, still, truth_shown)
        note(SHOWN, HEAD, still if view.frames is None else _back(undone, head, run), truth_shown)
    return errors


def _displaced(field: np.ndarray, pixels: np.ndarray, run: Any) -> np.ndarray:
    from DeepIterRegLib.images.resampling import displacements

    return displacements(field, pixels[:, ::-1], run.valid.shape)[:, ::-1]


def _back(field: np.ndarray, seen: np.ndarray, run: Any) -> np.ndarray:
    """Where a frame whose motion was undone shows what the detector saw at pixels (n, 2)."""
    pixels = seen
    for _ in range(5):
        pixels = seen - _displaced(field, pixels, run)
    return pixels


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("moving_frames", __doc__ or "", argv)
    small: Case = {"small": True} if options.small else {}
    cases: list[Case] = [{"seed": seed, **small} for seed in (SMALL_SEEDS if options.small else SEEDS)]
    settings = {"motion": (MOTION_MM, MOTION_DEG), "filled": FILLED}
    records = benchmarking.run_cases("moving_frames", cases, run_case, settings, options)
    body = "\n\n".join(
        [
            f"{len(records)} phantom patients whose head moves within the run by up to {MOTION_MM:g} mm and {MOTION_DEG:g} deg, one "
            "to five times; each run is registered with its mask frames, and as if it had come subtracted. Every frame counts in "
            "which contrast is seen. Error: mean distance on the detector between the points of the vessels that show contrast and "
            "where the overlay has them.",
            rows_of(records),
            "`still`: the overlay at the registered pose. `image's motion`: displaced as re-masking has found. `head's pose`: the "
            "skull found in each position of the head, as result, report, film and panel have it. A run that came subtracted shows "
            "no skull to follow.",
            _facts(records),
        ]
    )
    benchmarking.write_result("moving_frames", "Overlay of single frames of a head that moves", body, options, records)


def rows_of(records: list[dict[str, Any]]) -> str:
    """Errors of all frames by what they show and how the overlay is drawn, against an overlay that stands still."""
    rows = []
    for shown, ways in ((DETECTOR, (STILL, IMAGE, HEAD)), (SHOWN, (STILL, HEAD)), (SUBTRACTED, (STILL,))):
        still_mm = _all(records, shown, STILL)
        for drawn in ways:
            off_mm = _all(records, shown, drawn)
            share = off_mm.mean() / still_mm.mean()
            said = "" if drawn != HEAD else verdict(share <= TARGET)
            figures = [f"{value:.2f}" for value in (off_mm.mean(), *np.percentile(off_mm, (50, 90)), off_mm.max())]
            rows.append([shown, drawn, *figures, f"{share:.2f}", said])
    return table(["frames", "overlay", "mean mm", "median", "90 %", "largest", "of still", f"{TARGET:g}"], rows)


def _all(records: list[dict[str, Any]], shown: str, drawn: str) -> np.ndarray:
    return np.concatenate([record["errors"][shown][drawn] for record in records])


def _facts(records: list[dict[str, Any]]) -> str:
    """Per patient: motion, what was said of it, and the mean errors."""
    rows = []
    for record in records:
        errors = record["errors"]
        means = [
            f"{np.mean(errors[shown][drawn]):.2f}"
            for shown, drawn in ((DETECTOR, STILL), (DETECTOR, IMAGE), (DETECTOR, HEAD), (SHOWN, STILL), (SHOWN, HEAD))
        ]
        said = "-" if record["said_mm"] is None else f"{record['said_mm']:.1f}"
        positions = str(record["positions"] or "-")
        rows.append(
            [record["case"]["seed"], f"{record['moved_mm']:.1f}", said, positions, *means, f"{record['frames_s']:.2f}"]
        )
    header = ["seed", "moved mm", "said", "positions", "seen: still", "image", "head", "undone: still", "head", "s"]
    return table(header, rows)


if __name__ == "__main__":
    main()
