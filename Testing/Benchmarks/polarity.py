"""200 phantom runs stored in every way that files store grey values: is contrast read as what it is, asked about, or turned wrongly?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table
from pydicom.dataset import Dataset

# Judged before: 7000 to 7039, before the evidence was cut to 24 frames; 7100 to 7139, by a measure that took an edge of bone for a
# vessel and so called a right reading wrong (7139); 7140 to 7179. Try things on seeds below 1000.
SEEDS, SMALL_SEEDS = range(7140, 7180), range(40, 42)
STORAGES = 5  # ways of storing each run
MOTIONS_MM = (0.0, 1.0, 2.0, 3.0)
LOG_SCALE = 2000.0  # grey values of a subtracted run for a change of the log intensity by 1
MIDDLE, WHITE = 2048, 4095
SHOWN = {True: "yes", False: "no"}


def phantom_settings(seed: int, small: bool) -> Any:
    """A run of the usual kind that moves by so much, with one mask frame in every third; its CTA is coarse, as nobody looks at it."""
    from dataclasses import replace

    from DeepIterRegLib.phantom import PhantomSettings
    from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings

    motion = MOTIONS_MM[seed % len(MOTIONS_MM)]
    run = RunSettings(
        motion_mm=motion,
        motion_deg=motion,
        mask_frames=(1, 1) if seed % 3 == 0 else (1, 3),
        occlusion_weights=(0.2, 0.3, 0.3, 0.1, 0.1),
        duration_s=(5.0, 12.0),
    )
    coarse = CtaSettings(in_plane_spacing_mm=(1.2, 1.2), slice_spacing_mm=(1.2, 1.2))
    settings = PhantomSettings(cta=coarse, view=ViewSettings(matrices=(512,)), run=run)
    return replace(settings, view=ViewSettings(matrices=(256,))) if small else settings


def storage(rng: np.random.Generator) -> dict[str, Any]:
    """One way to store a run: which tags there are, and what they and the values say."""
    return {
        "subtracted": bool(rng.random() < 0.4),
        "subtraction told": bool(rng.random() < 0.5),
        "relation": ("LIN", "LOG", "")[rng.integers(3)],
        "inverted": bool(rng.random() < 0.5),
        "MONOCHROME1": bool(rng.random() < 0.5),
        "sign": bool(rng.random() < 0.25),
        "mask named": bool(rng.random() < 0.7),
    }


def stored(ds: Dataset, frames: np.ndarray, masks: tuple[int, ...], how: dict[str, Any]) -> None:
    """Change the dataset of a run of intensities (t, row, column) to be stored as `how` says; every tag left in it is true."""
    logs = np.log(np.maximum(frames.astype(np.float64), 1))
    del ds.PixelIntensityRelationshipSign, ds.PixelIntensityRelationship
    if how["subtracted"]:
        values = (MIDDLE + LOG_SCALE * (logs - logs[list(masks)].mean(axis=0)))[len(masks) :]
        del ds.MaskSubtractionSequence
        ds.PixelIntensityRelationship = "LOG"
        if how["subtraction told"]:
            ds.ImageType = ["DERIVED", "PRIMARY", "SINGLE PLANE", "SUBTRACTED"]
    else:
        values = logs / np.log(WHITE) * WHITE if how["relation"] == "LOG" else frames.astype(np.float64)
        if how["relation"]:
            ds.PixelIntensityRelationship = how["relation"]
        if not how["mask named"]:
            del ds.MaskSubtractionSequence
    values = np.clip(np.rint(values), 0, WHITE).astype("<u2")
    if how["inverted"]:
        values = WHITE - values
    if how["sign"]:
        ds.PixelIntensityRelationshipSign = -1 if how["inverted"] else 1
    ds.PhotometricInterpretation = "MONOCHROME1" if how["MONOCHROME1"] else "MONOCHROME2"
    ds.NumberOfFrames = len(values)
    ds.PixelData = values.tobytes()


def run_case(case: Case) -> Result:
    """One run stored in several ways: `read`, `asked` or `wrong` for each, and what was stored."""
    import pydicom

    from DeepIterRegLib.images.dicom import read_angiogram, write_xa
    from DeepIterRegLib.phantom import make_patient

    seed = case["seed"]
    patient = make_patient(seed, phantom_settings(seed, case.get("small", False)))
    run, rng = patient.run, np.random.default_rng(seed)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        plain, path = Path(folder, "plain.dcm"), Path(folder, "run.dcm")
        write_xa(plain, run.frames, run.carm, run.frame_times_s, run.mask_frames)
        known = read_angiogram(plain).frames
        for _ in range(STORAGES):
            how, ds = storage(rng), pydicom.dcmread(plain)
            stored(ds, run.frames, run.mask_frames, how)
            ds.save_as(path)
            angiogram = read_angiogram(path)
            right = same_way_round(angiogram.frames, known)
            asked = any(is_question(note) for note in angiogram.notes)
            outcomes.append({"outcome": "asked" if asked else "read" if right else "wrong", "right": right, **how})
    return {"motion_mm": patient.settings.run.motion_mm, "occlusion": patient.occlusion, "runs": outcomes}


def same_way_round(read: np.ndarray, known: np.ndarray) -> bool:
    """Whether frames (t, row, column) have the sign of those read from a file whose tags leave nothing open; the last ones of either.

    What darkens most in one frame, the measure before, is not always a vessel: where the head moved it may be an edge of bone.
    """
    count = min(len(read), len(known))
    return bool(np.corrcoef(read[-count:].ravel(), known[-count:].ravel())[0, 1] > 0)


def is_question(note: str) -> bool:
    """Whether a note says that it is not certain and asks for the option, the values left as the tags suggest."""
    asks = any(remedy.option == "contrast" for remedy in getattr(note, "give", ()))
    return asks and "inverted" not in note


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("polarity", __doc__ or "", argv)
    seeds = SMALL_SEEDS if options.small else SEEDS
    cases: list[Case] = [{"seed": seed, **({"small": True} if options.small else {})} for seed in seeds]
    settings = {"motions_mm": MOTIONS_MM, "storages": STORAGES, "measure": "same way round"}
    records = benchmarking.run_cases("polarity", cases, run_case, settings, options)
    runs = [{**run, "motion_mm": record["motion_mm"]} for record in records for run in record["runs"]]
    wrong = sum(run["outcome"] == "wrong" for run in runs)
    body = "\n\n".join(
        [
            "Each phantom run (one injected territory, occlusions, the head still or moving by up to 3 mm and 3 deg between the frames) is "
            f"stored in {STORAGES} ways: as LIN, LOG or without relation, subtracted without regard to motion or not, grey values "
            "inverted or not under MONOCHROME1 or MONOCHROME2, each tag present or absent, and read back. *Asked*: the tags' side is "
            "kept, the note says the doubt and names the option.",
            f"Wrong: {wrong} of {len(runs)} ({benchmarking.verdict(wrong == 0)}, target 0).",
            counts(runs),
        ]
    )
    benchmarking.write_result("polarity", f"Dark or bright: {len(runs)} stored runs", body, options, records)


def counts(runs: list[dict[str, Any]]) -> str:
    """Outcomes of all, and of those that a tag, the subtraction or the motion sets apart."""
    groups: list[tuple[str, list[dict[str, Any]]]] = [("all", runs)]
    for name in ("sign", "subtracted", "MONOCHROME1", "inverted", "mask named"):
        groups += [(f"{name}: {SHOWN[value]}", [run for run in runs if run[name] == value]) for value in (True, False)]
    groups += [(f"motion up to {mm:g} mm", [run for run in runs if run["motion_mm"] == mm]) for mm in MOTIONS_MM]
    rows = []
    for name, group in groups:
        told = [sum(run["outcome"] == outcome for run in group) for outcome in ("read", "asked", "wrong")]
        asked_right = sum(run["outcome"] == "asked" and run["right"] for run in group)
        rows.append([name, len(group), told[0], told[1], asked_right, told[2]])
    return table(["", "runs", "read right", "asked", "of these the tags' side is right", "wrong"], rows)


if __name__ == "__main__":
    main()
