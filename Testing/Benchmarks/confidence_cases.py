"""Registrations of every kind, wrong ones on purpose, with their true error and what `confidence.features` sees of them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import benchmarking
import numpy as np
from benchmarking import CACHE, Case, Result

# Development only: what is calibrated here is judged on other seeds.
SEEDS, SMALL_SEEDS = range(1100, 1200), range(1050, 1052)
VARIED_SEEDS = range(SEEDS.start - 1, SEEDS.stop)  # the first one's "wrong patient" is the one before
# Patients as the other benchmarks make them, with other parameters than the ones above, to see whether what is calibrated
# on one kind holds on the other. Every other seed (judging) is made like these.
STANDARD_SEEDS = range(1000, 1030)
VERSION = 1  # of the cases and the features; raise it when either changes
WRONG_LIMIT_MM = 300.0


@dataclass(frozen=True)
class Prepared:
    """One phantom patient after segmentation."""

    points: Any
    view: Any
    truth: np.ndarray
    centre_mm: np.ndarray
    injection: str
    occlusion: str


def phantom_settings(seed: int, small: bool) -> Any:
    """Coarser than the judging ones, to be made and segmented quickly; parameters vary more."""
    from DeepIterRegLib.phantom import PhantomSettings
    from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings

    rng = np.random.default_rng([seed, 17])
    spacing = float(rng.uniform(0.7, 0.9)) if not small else 1.0
    return PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(spacing,) * 2, slice_spacing_mm=(spacing,) * 2),
        view=ViewSettings(matrices=(256 if small else 512,)),
        run=RunSettings(
            injection_weights=(0.4, 0.4, 0.2),
            frames_per_s=(1.5, 3.0),
            duration_s=(5.0, 12.0),  # the shorter ones stop before the veins
            motion_mm=float(rng.uniform(0, 2.5)),
            motion_deg=float(rng.uniform(0, 2.0)),
            photons=(2000.0, 12000.0),
        ),
    )


def prepare(seed: int, small: bool) -> Prepared:
    """The patient, made once and then read from the cache (our own files only)."""
    path = CACHE / "confidence" / f"{seed}{'-small' if small else ''}-{VERSION}.pkl"
    if path.exists():
        return pickle.loads(path.read_bytes())  # type: ignore[no-any-return]
    made = varied_patient(seed, small) if small or seed in VARIED_SEEDS else standard_patient(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".part").write_bytes(pickle.dumps(made))
    path.with_suffix(".part").rename(path)
    return made


def standard_patient(seed: int) -> Prepared:
    """As in robustness.py: written to files, read back, segmented."""
    import tempfile
    from pathlib import Path

    import robustness

    from DeepIterRegLib.dicom import read_angiogram
    from DeepIterRegLib.phantom import make_patient, write_patient
    from DeepIterRegLib.pipeline import vessel_points
    from DeepIterRegLib.segmentation.cta import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.volume import load_volume
    from DeepIterRegLib.volume_checks import prepare_cta

    patient = make_patient(seed, robustness.phantom_settings(False))
    with tempfile.TemporaryDirectory() as folder:
        write_patient(patient, folder)
        cta, _ = prepare_cta(load_volume(Path(folder, "cta.nii.gz")))
        angiogram = read_angiogram(Path(folder, "dsa.dcm"))
    points, masks = vessel_points(segment_vessels(cta)), segment_dsa(angiogram)
    return prepared(
        points,
        masks,
        angiogram.valid,
        angiogram.carm,
        patient.cta_to_carm,
        cta.centre_mm,
        patient.run.injection,
        patient.occlusion,
    )


def prepared(
    points: Any,
    masks: Any,
    valid: np.ndarray,
    carm: Any,
    truth: np.ndarray,
    centre_mm: np.ndarray,
    injection: str,
    occlusion: str,
) -> Prepared:
    from DeepIterRegLib.alignment import vessel_channels
    from DeepIterRegLib.confidence.features import MaskedView
    from DeepIterRegLib.pipeline import contrast_image

    channels = vessel_channels(contrast_image(masks, valid), valid).astype(np.float32)
    masks = replace(masks, vesselness=masks.vesselness.astype(np.float16), arrival_time_s=np.zeros(0, np.float32))
    return Prepared(points, MaskedView(channels, valid, carm, masks), truth, centre_mm, injection, occlusion)


def varied_patient(seed: int, small: bool) -> Prepared:
    """A coarser CTA and a run of which more varies."""
    from DeepIterRegLib.angiogram import Angiogram
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.pipeline import vessel_points
    from DeepIterRegLib.segmentation.cta import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.subtraction import subtract, to_log

    patient = make_patient(seed, phantom_settings(seed, small))
    run = patient.run
    valid = (run.frames > 0).all(axis=0)
    frames = subtract(to_log(run.frames.astype(np.float32), 1.0), valid, mask_frames=run.mask_frames).frames
    masks = segment_dsa(Angiogram(frames, run.carm, run.frame_times_s, valid))
    points = vessel_points(segment_vessels(patient.cta))
    centre = patient.cta.centre_mm
    return prepared(points, masks, valid, run.carm, patient.cta_to_carm, centre, run.injection, patient.occlusion)


# -- scenes: one CTA with one view, each with something wrong or missing ---------------------------------


@dataclass(frozen=True)
class SceneCase:
    """A CTA and a view to register; `truth` is None where no pose is right."""

    kind: str
    points: Any
    view: Any
    truth: np.ndarray | None
    centre_mm: np.ndarray
    search: bool
    climbs: int


def shown(view: Any, mask: np.ndarray) -> Any:
    """The view with only part of its vessels, as if the run showed or the segmentation found no others."""
    from DeepIterRegLib.alignment import vessel_channels
    from DeepIterRegLib.pipeline import contrast_image

    m = view.masks
    masks = replace(m, vessels=m.vessels & mask, arteries=m.arteries & mask, veins=m.veins & mask)
    channels = vessel_channels(contrast_image(masks, view.valid), view.valid).astype(np.float32)
    return replace(view, masks=masks, channels=channels)


def with_gaps(view: Any, share: float, rng: np.random.Generator) -> np.ndarray:
    """Mask (row, column) without about `share` of the smaller vessels: discs along the thinner ones are wiped."""
    from scipy import ndimage

    vessels = view.masks.vessels
    thin = ndimage.distance_transform_edt(vessels) * view.carm.pixel_spacing_mm[0]
    candidates = np.argwhere(vessels & (thin < np.quantile(thin[vessels], 0.6)))
    keep = np.ones(vessels.shape, dtype=bool)
    rows, columns = np.indices(vessels.shape, sparse=True)
    radius = 12.0 / view.carm.pixel_spacing_mm[0]
    begin = max(int(vessels.sum()), 1)
    for _ in range(200):
        if (vessels & keep).sum() < (1 - share) * begin:
            break
        r, c = candidates[rng.integers(len(candidates))]
        keep &= (rows - r) ** 2 + (columns - c) ** 2 > radius**2
    return keep


def few_vessels(view: Any, share: float) -> np.ndarray:
    """Mask (row, column) of the strongest connected vessels that make up about `share` of the arteries."""
    from scipy import ndimage

    contrast = np.maximum(-view.masks.minip, 0) * view.masks.arteries
    level = np.quantile(contrast[view.masks.arteries], 1 - share) if view.masks.arteries.any() else 0.0
    return np.asarray(ndimage.binary_dilation(contrast > level, iterations=2))


def part_of_points(points: Any, keep: np.ndarray) -> Any:
    """CTA vessels without some."""
    return replace(
        points, positions=points.positions[keep], weights=points.weights[keep], tangents=points.tangents[keep]
    )


def scenes(seed: int, mine: Prepared, other: Prepared, rng: np.random.Generator) -> Iterator[SceneCase]:
    """The scenes of one patient. Some kinds come with every second or third patient, to keep the count of patients high."""
    view, points, truth, centre = mine.view, mine.points, mine.truth, mine.centre_mm
    yield SceneCase("right", points, view, truth, centre, True, 4)
    turn = seed % 3
    if turn == 0:
        yield SceneCase("arteries only", points, shown(view, view.masks.arteries), truth, centre, True, 2)
    if turn == 1:
        keep = with_gaps(view, float(rng.uniform(0.2, 0.5)), rng)
        yield SceneCase("gaps", points, shown(view, keep), truth, centre, True, 2)
    if turn == 2:
        yield SceneCase(
            "few vessels", points, shown(view, few_vessels(view, float(rng.uniform(0.3, 0.7)))), truth, centre, True, 2
        )
    yield SceneCase("wrong patient", other.points, view, None, other.centre_mm, True, 1)
    if seed % 2 == 0:
        side = points.positions[:, int(rng.integers(3))]
        keep = side > np.median(side) if rng.random() < 0.5 else side < np.median(side)
        yield SceneCase("half a CTA", part_of_points(points, keep), view, truth, centre, True, 2)
    else:
        flipped = replace(
            points,
            positions=points.positions * np.array([-1, 1, 1], np.float32),
            tangents=points.tangents * np.array([-1, 1, 1], np.float32),
        )
        yield SceneCase("mirrored CTA", flipped, view, None, centre, True, 1)
    carm = view.carm
    from DeepIterRegLib.geometry import CArm

    wrong = CArm.from_angles(
        carm.primary_angle_deg + float(rng.uniform(-12, 12)),
        carm.secondary_angle_deg + float(rng.uniform(-12, 12)),
        sid_mm=carm.sid_mm * float(rng.uniform(0.85, 1.15)),
        sod_mm=carm.sod_mm * float(rng.uniform(0.95, 1.05)),
        rows=carm.rows,
        columns=carm.columns,
        pixel_spacing_mm=carm.pixel_spacing_mm,
    )
    yield SceneCase("wrong geometry", points, replace(view, carm=wrong), truth, centre, False, 2)


def error_mm(scene: SceneCase, cta_to_carm: np.ndarray, true_carm: Any) -> float:
    """MPE, mm on the detector, each pose seen through its own geometry; `WRONG_LIMIT_MM` where no pose is right."""
    from DeepIterRegLib.geometry import cube_corners

    if scene.truth is None:
        return WRONG_LIMIT_MM
    corners = cube_corners(scene.centre_mm)
    apart = scene.view.carm.project(corners, cta_to_carm) - true_carm.project(corners, scene.truth)
    spacing = np.array(true_carm.pixel_spacing_mm)[::-1]
    error = float(np.mean(np.linalg.norm(apart * spacing, axis=-1)))
    return min(error, WRONG_LIMIT_MM) if np.isfinite(error) else WRONG_LIMIT_MM


def run_case(case: Case) -> Result:
    """All registrations of one patient."""
    from DeepIterRegLib.confidence.features import rivals, view_features
    from DeepIterRegLib.geometry import mpe_mm, pose
    from DeepIterRegLib.pipeline import RegistrationSettings
    from DeepIterRegLib.search import Level, SearchSettings, climb, search

    seed, small = case["seed"], case.get("small", False)
    rng = np.random.default_rng([seed, 23])
    mine, other = prepare(seed, small), prepare(seed - 1 if seed != STANDARD_SEEDS[0] else seed + 1, small)
    settings = RegistrationSettings.preset("default")
    light = SearchSettings(
        candidates=48, levels=(Level(96, 4000, 0.9, 4, 24), Level(128, 8000, 0.8, 5, 12), Level(192, 16000, 0.9, 5, 6))
    )
    tiny = SearchSettings(rotation_step_deg=14.0, candidates=6, levels=(Level(96, 4000, 0.9, 4, 2),))
    rows: list[dict[str, Any]] = []
    for scene in scenes(seed, mine, other, rng):
        common = (scene.points, (scene.view,))
        start = pose.radiological(scene.centre_mm)
        poses: list[tuple[str, np.ndarray]] = []

        def finish(start: np.ndarray, levels: Any = settings.levels, common: Any = common) -> np.ndarray:
            return climb(start, *common, levels, SATURATION_MM, seed=seed).cta_to_carm

        if scene.search:
            found = search(
                *common, start, scene.centre_mm, settings.search if scene.kind == "right" and seed % 2 else light
            )
            best = finish(found.poses)
            poses.append(("search", best))
            apart = [
                p for p in found.poses if float(mpe_mm(scene.view.carm, p, best, scene.centre_mm)) > 6.0
            ]  # what would have been answered, had the best not been found
            if apart and (scene.truth is None or rng.random() < 0.6):
                poses.append(("second best", finish(apart[0][None])))
        if scene.kind == "right":
            poor = search(*common, start, scene.centre_mm, tiny, seed=seed)
            poses.append(("poor search", finish(poor.poses, settings.near_levels + settings.levels)))
        for n in range(scene.climbs):
            near = scene.truth if scene.truth is not None else poses[0][1]
            size = float(rng.choice([3.0, 7.0, 12.0, 18.0, 28.0]))
            turn = pose.euler_deg_to_rotation(rng.uniform(-size, size, 3))
            begin = np.asarray(pose.offset_about(near, scene.centre_mm, turn, rng.uniform(-size, size, 3)))
            # the last one of the right scene is left half way
            levels = (
                (Level(96, 4000, 1.5, 3, 1),)
                if scene.kind == "right" and n == 3
                else settings.near_levels + settings.levels
            )
            poses.append(("climb", finish(begin[None], levels)))
        others = rivals(scene.points, scene.view, scene.centre_mm, seed)
        for how, found_pose in poses:
            seen = view_features(scene.points, scene.view, found_pose, scene.centre_mm, others, seed)
            rows.append(
                {
                    "kind": scene.kind,
                    "how": how,
                    "pose": [round(float(v), 6) for v in found_pose[:3].ravel()],
                    "mpe_mm": round(error_mm(scene, found_pose, mine.view.carm), 3),
                    "features": {name: float(f"{value:.5g}") for name, value in seen.items()},
                }
            )
    wrong = sum(row["mpe_mm"] >= 5 for row in rows)
    return {
        "injection": mine.injection,
        "occlusion": mine.occlusion,
        "registrations": len(rows),
        "wrong": wrong,
        "rows": rows,
    }


SATURATION_MM = 5.0


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("confidence_cases", __doc__ or "", argv)
    small = options.small
    seeds = SMALL_SEEDS if small else [*STANDARD_SEEDS[:6], *SEEDS]
    cases: list[Case] = [{"seed": seed, **({"small": True} if small else {})} for seed in seeds]
    benchmarking.run_cases("confidence_cases", cases, run_case, {"version": VERSION}, options)


if __name__ == "__main__":
    import confidence_cases  # so that what is kept names this module and others can read it

    confidence_cases.main()
