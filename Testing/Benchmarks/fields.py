"""How much of the patient a CTA shows must not matter: arch to vertex, air around, cut ends, 20 crops of one head."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table, verdict

from DeepIterRegLib.geometry import mpe_mm

SEEDS, SMALL_SEEDS = range(6000, 6020), range(40, 41)
CROPPED_SEED, CROPS = 6020, 20
WHOLE = "head alone"
FIELDS = (WHOLE, "arch to vertex", "air below and beside", "without the top 30 mm", "without the lowest 40 mm")
BELOW_MM, BESIDE_MM, TOP_MM, BASE_MM = 220.0, 60.0, 30.0, 40.0
SIDES_MM = (160.0, 500.0)
RIGHT_MM, TARGET_MPE_MM = 5.0, 0.3


def shown(cta: Any, field: str, rng: np.random.Generator) -> Any:
    """The head of a CTA, as a file with another field of view shows it; voxels and their places stay."""
    from DeepIterRegLib.images.volume import Volume

    volume = upright(cta)
    voxels, affine = volume.voxels, volume.affine
    spacing = volume.spacing_mm[::-1]
    if field == WHOLE:
        return cta
    if field.startswith("without"):
        top = "top" in field
        n = round((TOP_MM if top else BASE_MM) / spacing[0])
        return Volume(voxels[:-n], affine) if top else Volume(voxels[n:], moved(affine, (n, 0, 0)))
    if field == "arch to vertex":
        return with_chest(volume, rng)
    if field == "air below and beside":
        return padded(volume, (round(BELOW_MM / spacing[0]), *(round(BESIDE_MM / s) for s in spacing[1:])))
    return crop(volume, float(field.split()[-2]), rng)


def upright(cta: Any) -> Any:
    """Slices from feet to head, rows from front to back, columns from right to left or the other way: exchanged, not resampled."""
    from DeepIterRegLib.images.volume import Volume

    axes = [int(np.argmax(np.abs(cta.affine[row, :3]))) for row in (2, 1, 0)]  # the affine's columns for k, j, i
    voxels = cta.voxels.transpose([2 - axis for axis in axes])
    affine = cta.affine[:, [*axes[::-1], 3]].copy()
    if affine[2, 2] < 0:
        affine[:3, 3] += affine[:3, 2] * (len(voxels) - 1)
        affine[:3, 2] *= -1
        voxels = voxels[::-1]
    return Volume(np.ascontiguousarray(voxels), affine)


def moved(affine: np.ndarray, first: tuple[int, int, int]) -> np.ndarray:
    """The affine of a part that begins at voxel k, j, i."""
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ first[::-1]
    return out


def padded(volume: Any, count: tuple[int, int, int]) -> Any:
    """Air: below by `count[0]`, on both sides by the others."""
    from DeepIterRegLib.images.volume import Volume

    k, j, i = count
    voxels = np.pad(volume.voxels, ((k, 0), (j, j), (i, i)), constant_values=-1000)
    return Volume(voxels, moved(volume.affine, (-k, -j, -i)))


def with_chest(volume: Any, rng: np.random.Generator) -> Any:
    """Below the head its lowest slice again and again, and from 90 mm on a chest: ribs, lungs, spine, a bright heart."""
    from DeepIterRegLib.images.volume import Volume

    spacing = volume.spacing_mm[::-1]
    count = round(BELOW_MM / spacing[0])
    wide = padded(volume, (0, *(round(BESIDE_MM / s) for s in spacing[1:])))
    lowest = wide.voxels[0].astype(np.float32)
    below = np.repeat(lowest[None], count, axis=0)
    rows, columns = lowest.shape
    y, x = np.indices(lowest.shape)
    y, x = (y - rows / 2) * spacing[1], (x - columns / 2) * spacing[2]
    for n in range(count):
        depth = (count - n) * spacing[0]
        if depth < 90:
            continue
        body, ribs = (x / 170) ** 2 + (y / 105) ** 2, (x / 150) ** 2 + (y / 92) ** 2
        slice_ = np.where(body < 1, 45.0, -1000.0)
        if depth % 24 < 10:
            slice_[(ribs < 1) & (ribs > 0.86)] = 600
        if depth > 120:
            slice_[((np.abs(x) - 70) / 50) ** 2 + (y / 70) ** 2 < 1] = -820
            slice_[np.hypot(x, y) < 35] = 380
        slice_[np.hypot(x, y - 65) < 17] = 500
        below[n] = slice_
    below += rng.normal(0, 15, below.shape)
    voxels = np.concatenate([below.round().astype(np.int16), wide.voxels])
    return Volume(voxels, moved(wide.affine, (-count, 0, 0)))


def crop(volume: Any, side_mm: float, rng: np.random.Generator) -> Any:
    """A field of `side_mm` on every axis about a place near the brain; air where the file did not reach."""
    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.volume import Volume

    # A field as small as the head must hold it; a larger one may lie anywhere about it.
    reach = 5 + max(0.0, side_mm - 200) / 4
    middle = prepare_cta(volume).centre_mm + np.array([0, 0, 20]) + rng.uniform(-reach, reach, 3)
    index = np.linalg.solve(volume.affine[:3, :3], middle - volume.affine[:3, 3])[::-1]
    half = side_mm / 2 / volume.spacing_mm[::-1]
    first, stop = np.floor(index - half).astype(int), np.ceil(index + half).astype(int)
    size = np.array(volume.voxels.shape)
    low, high = np.clip(first, 0, size), np.clip(stop, 0, size)
    part = volume.voxels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    part = np.pad(part, list(zip(low - first, stop - high, strict=True)), constant_values=-1000)
    return Volume(part, moved(volume.affine, tuple(int(n) for n in first)))


def run_case(case: Case) -> Result:
    """One patient, registered once with each field of view, as a case of files is; MPE about the middle of the phantom's own volume."""
    from robustness import phantom_settings

    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.phantom import make_patient, write_patient

    patient = make_patient(case["seed"], phantom_settings(case.get("small", False)))
    with tempfile.TemporaryDirectory() as folder:
        write_patient(patient, folder)
        angiogram = read_angiogram(Path(folder, "dsa.dcm"))
    # Frames are subtracted in the mask frame's position, so that is where the head stands.
    truth = patient.run.motion[patient.run.mask_frames[0]] @ patient.cta_to_carm
    rng = np.random.default_rng(case["seed"])
    found = {field: _registered(shown(patient.cta, field, rng), angiogram) for field in case["fields"]}
    centre = patient.cta.centre_mm
    for result in found.values():
        if "ctaToCarm" in result:
            pose = np.array(result["ctaToCarm"])
            result["mpe_mm"] = float(mpe_mm(angiogram.carm, pose, truth, centre))
            if "ctaToCarm" in found[WHOLE]:
                alone = np.array(found[WHOLE]["ctaToCarm"])
                result["to_alone_mm"] = float(mpe_mm(angiogram.carm, pose, alone, centre))
    return {"found": found}


def _registered(cta: Any, angiogram: Any) -> Result:
    from DeepIterRegLib.cases.case import Case as RegistrationCase
    from DeepIterRegLib.cases.case import register_case
    from DeepIterRegLib.common.errors import InputError, RegistrationError
    from DeepIterRegLib.common.progress import Progress

    size = {"megavoxels": round(cta.voxels.size / 1e6, 1)}
    begin = time.perf_counter()
    try:
        outcome = register_case(RegistrationCase(cta=lambda: cta, angiogram=lambda: angiogram), Progress())
    except (InputError, RegistrationError) as error:
        return {**size, "error": str(error)}
    found = outcome.registration
    return {
        **size,
        "ctaToCarm": found.cta_to_carm.tolist(),
        "state": found.confidence.state,
        "said": sum("cut off" in warning for warning in found.warnings),
        "seconds": time.perf_counter() - begin,
    }


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("fields", __doc__ or "", argv)
    small: Case = {"small": True} if options.small else {}
    sides = np.linspace(*SIDES_MM, 3 if options.small else CROPS)
    crops = [WHOLE, *(f"crop of {side:.0f} mm" for side in sides)]
    cases: list[Case] = [{"seed": CROPPED_SEED, "fields": crops, **small}]
    cases += [{"seed": seed, "fields": list(FIELDS), **small} for seed in (SMALL_SEEDS if options.small else SEEDS)]
    records = benchmarking.run_cases("fields", cases, run_case, {}, options)
    many = [record["found"] for record in records if record["case"]["seed"] != CROPPED_SEED]
    one = [record["found"] for record in records if record["case"]["seed"] == CROPPED_SEED]
    body = "\n\n".join(
        [
            f"{len(many)} phantom patients, each registered with its own CTA and with files that show more or less of it. The same voxels "
            "of the head stand in all of them.",
            _by_field(many),
            *(_of_crops(found) for found in one),
        ]
    )
    benchmarking.write_result("fields", "How much of the patient a CTA shows", body, options, records)


def _by_field(many: list[dict[str, Any]]) -> str:
    rows = []
    for field in FIELDS:
        found = [one[field] for one in many]
        errors = np.array([result.get("mpe_mm", math.inf) for result in found])
        away = np.array([result.get("to_alone_mm", math.inf) for result in found])
        seconds = [
            a[field]["seconds"] / a[WHOLE]["seconds"] for a in many if "seconds" in a[field] and "seconds" in a[WHOLE]
        ]
        rows.append(
            [
                field,
                f"{np.median([result['megavoxels'] for result in found]):.0f}",
                f"{(errors < RIGHT_MM).sum()} of {len(found)}",
                f"{np.median(errors):.2f}",
                f"{np.median(away):.2f}",
                f"{away.max():.2f}",
                f"{np.median(seconds):.2f}" if seconds else "-",
                f"{sum(result.get('state') == 'accepted' for result in found)}",
                f"{sum(result.get('said', 0) > 0 for result in found)}",
            ]
        )
    header = ["field", "megavoxels", "below 5 mm", "median MPE mm", "median to alone mm", "most to alone mm"]
    return table([*header, "time to alone", "accepted", "a cut end is said"], rows)


def _of_crops(found: dict[str, Any]) -> str:
    away = [result.get("to_alone_mm", math.inf) for field, result in found.items() if field != WHOLE]
    lines = [
        [field, result["megavoxels"], f"{result.get('to_alone_mm', math.inf):.2f}"] for field, result in found.items()
    ]
    reached = verdict(max(away) <= TARGET_MPE_MM)
    return (
        f"One head in {len(away)} fields of {SIDES_MM[0]:.0f} to {SIDES_MM[1]:.0f} mm: at most {max(away):.2f} mm MPE from the pose with "
        f"the head alone, target {TARGET_MPE_MM} mm: {reached}.\n\n"
        + table(["field", "megavoxels", "MPE to alone mm"], lines)
    )


if __name__ == "__main__":
    main()
