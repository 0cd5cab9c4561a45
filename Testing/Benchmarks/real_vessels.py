"""The real vessels of one whole brain, registered to DSA runs ray-cast from the arteries of one side and all veins."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import CACHE, ROOT, Case, Result, table

FILES = ("vessels/brain_arteries.nii.gz", "vessels/brain_veins.nii.gz")
OFFSETS = 20  # of each view
PRIMARY_DEG = {"AP": 0.0, "lateral": 90.0}
ROTATION_DEG, TRANSLATION_MM = 35.0, 40.0
SID_MM, SOD_MM, DETECTOR_MM = 1100.0, 740.0, 400.0
TARGET_RATE, TARGET_MEDIAN_MM = 1.0, 1.0

# The run: contrast per mm of vessel at its peak, when it peaks, and the noise of a pixel of one frame, log intensity.
FRAMES_PER_S, DURATION_S = 2.0, 10.0
ARTERY_PER_MM, ARTERY_PEAK_S, VEIN_PER_MM, VEIN_PEAK_S, NOISE = 0.10, 2.5, 0.05, 6.5, 0.02


def data_folder() -> Path | None:
    """Folder of the real vessels, or None."""
    folder = Path(os.environ.get("DEEPITERREG_SHARED_DATA", ROOT.parent / "shared" / "data"))
    return folder if all((folder / name).exists() for name in FILES) else None


@cache
def vessels() -> tuple[Any, Any]:
    """Masks (bool) of arteries and veins, on one grid."""
    from DeepIterRegLib.images.files import load_volume

    folder = data_folder()
    if folder is None:
        raise FileNotFoundError("the real vessels are not here")
    arteries, veins = (load_volume(folder / name) for name in FILES)
    return arteries.with_voxels(arteries.voxels != 0), veins.with_voxels(veins.voxels != 0)


def one_side(arteries: Any, side: str) -> Any:
    """Arteries right or left of the middle of the box that holds them all; RAS: right is +x."""
    indices = np.argwhere(arteries.voxels)
    x = arteries.to_ras(indices)[:, 0]
    chosen = indices[x > (x.min() + x.max()) / 2] if side == "right" else indices[x < (x.min() + x.max()) / 2]
    voxels = np.zeros_like(arteries.voxels)
    voxels[tuple(chosen.T)] = True
    return arteries.with_voxels(voxels)


def view(name: str, rows: int) -> Any:
    from DeepIterRegLib.geometry import CArm

    pixel_mm = DETECTOR_MM / rows
    return CArm.from_angles(
        PRIMARY_DEG[name],
        0,
        sid_mm=SID_MM,
        sod_mm=SOD_MM,
        rows=rows,
        columns=rows,
        pixel_spacing_mm=(pixel_mm, pixel_mm),
    )


def true_pose(case: Case, centre_mm: np.ndarray) -> np.ndarray:
    from DeepIterRegLib.geometry import pose

    rng = np.random.default_rng([case["offset"], list(PRIMARY_DEG).index(case["view"])])
    turn = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * ROTATION_DEG)
    shift_mm = rng.uniform(-1, 1, 3) * TRANSLATION_MM
    return np.asarray(pose.offset_about(pose.radiological(centre_mm), centre_mm, turn, shift_mm))


def ray_cast(mask: Any, carm: Any, cta_to_carm: np.ndarray) -> np.ndarray:
    """Exact path length in the mask, mm, (rows, columns) float32, by `RaycastProjector`, Siddon.

    Only rays through the shadow of a voxel are cast: all others are exactly 0 and would take nine tenths of the time.
    """
    import torch
    from scipy import ndimage

    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.rendering.raycast import RaycastProjector

    points = mask.to_ras(np.argwhere(mask.voxels))
    px = np.rint(carm.project(points, cta_to_carm)).astype(int)
    depth_mm = (pose.transform(cta_to_carm, points) - np.array(carm.source_mm)) @ carm.axes[2]
    # Half a voxel's diagonal at the magnification nearest to the source, and a px for rounding.
    reach_mm = np.linalg.norm(mask.spacing_mm) / 2 * carm.sid_mm / depth_mm.min()
    reach_px = int(np.ceil(reach_mm / min(carm.pixel_spacing_mm))) + 1
    inside = np.all((px >= -reach_px) & (px < np.array([carm.columns, carm.rows]) + reach_px), axis=1)
    shadow = np.zeros((carm.rows + 2 * reach_px, carm.columns + 2 * reach_px), dtype=bool)
    shadow[px[inside, 1] + reach_px, px[inside, 0] + reach_px] = True
    shadow = ndimage.maximum_filter(shadow, 2 * reach_px + 1)[reach_px:-reach_px, reach_px:-reach_px]
    wanted = torch.as_tensor(np.ascontiguousarray(shadow).ravel())

    class InShadow(RaycastProjector):
        def _may_hit(self, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
            return super()._may_hit(first, last) & wanted

    with torch.no_grad():
        image = InShadow(mask, carm, patch_px=64)(torch.as_tensor(cta_to_carm)[None])[0]
    return image.numpy()


def images(case: Case, carm: Any, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Path lengths in the arteries of one side and in the veins; kept in the cache folder."""
    side = "right" if case["offset"] % 2 else "left"
    path = CACHE / "real-vessels" / f"{case['view']}-{case['offset']}-{carm.rows}.npz"
    if path.exists():
        stored = np.load(path)
        if np.array_equal(stored["truth"], truth):
            return stored["arteries"], stored["veins"]
    arteries, veins = vessels()
    both = ray_cast(one_side(arteries, side), carm, truth), ray_cast(veins, carm, truth)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part.npz")
    np.savez_compressed(beside, arteries=both[0], veins=both[1], truth=truth)
    beside.replace(path)
    return both


def angiogram(case: Case, carm: Any, truth: np.ndarray) -> Any:
    """A run: arteries early, veins late, noise; contrast negative, log intensity."""
    from DeepIterRegLib.images.angiogram import Angiogram
    from DeepIterRegLib.phantom.filling import gamma_variate

    arteries, veins = images(case, carm, truth)
    times_s = np.arange(0, DURATION_S, 1 / FRAMES_PER_S)
    rng = np.random.default_rng([case["offset"], 1])
    early = ARTERY_PER_MM * gamma_variate(times_s / ARTERY_PEAK_S)
    late = VEIN_PER_MM * gamma_variate((times_s - 2.0) / (VEIN_PEAK_S - 2.0))
    frames = np.stack(
        [
            NOISE * rng.standard_normal(arteries.shape, dtype=np.float32)
            - np.float32(a) * arteries
            - np.float32(v) * veins
            for a, v in zip(early, late, strict=True)
        ]
    )
    return Angiogram(frames, carm, times_s, np.ones(arteries.shape, dtype=bool))


def run_case(case: Case) -> Result:
    """One offset: the whole brain's vessels as the CTA's mask, our own segmentation of the run."""
    import outcomes

    from DeepIterRegLib.registration.settings import RegistrationSettings

    arteries, veins = vessels()
    whole = arteries.with_voxels(arteries.voxels | veins.voxels)
    carm = view(case["view"], case["rows"])
    truth = true_pose(case, whole.centre_mm)
    return outcomes.register_and_judge(whole, angiogram(case, carm, truth), RegistrationSettings(), truth, whole)


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("real_vessels", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    if data_folder() is None:
        print(f"real_vessels: skipped, {' and '.join(FILES)} are not in DEEPITERREG_SHARED_DATA or ../shared/data")
        return
    import outcomes

    from DeepIterRegLib.registration.settings import RegistrationSettings

    rows = 128 if options.small else 1024
    cases: list[Case] = [
        {"view": name, "offset": offset, "rows": rows}
        for offset in range(2 if options.small else OFFSETS)
        for name in PRIMARY_DEG
    ]
    settings = {
        "registration": asdict(RegistrationSettings()),
        "view": [PRIMARY_DEG, SID_MM, SOD_MM, DETECTOR_MM],
        "offset": [ROTATION_DEG, TRANSLATION_MM],
        "run": [FRAMES_PER_S, DURATION_S, ARTERY_PER_MM, ARTERY_PEAK_S, VEIN_PER_MM, VEIN_PEAK_S, NOISE],
    }
    records = benchmarking.run_cases("real_vessels", cases, run_case, settings, options)
    outcomes.plot(records, "Real vessels of one brain", options.results / "real_vessels.png")
    by_view = []
    for name in PRIMARY_DEG:
        group = [record for record in records if record["case"]["view"] == name]
        if group:
            errors = [record.get("mpe_mm", np.inf) for record in group]
            good = sum(map(outcomes.succeeded, group))
            by_view.append([name, f"{good} of {len(group)}", f"{np.median(errors):.2f}", f"{max(errors):.2f}"])
    body = "\n\n".join(
        [
            f"The CTA's mask: arteries and veins of one real brain. The run: arteries of one side (in turn left and right) and all veins, "
            f"ray-cast exactly (Siddon) at {rows} x {rows} px, arteries early, veins late, with noise; segmented by our own segmentation. "
            f"Offsets uniform within +-{ROTATION_DEG:g} deg and +-{TRANSLATION_MM:g} mm on every axis.",
            outcomes.summary(records, TARGET_RATE, TARGET_MEDIAN_MM),
            table(["view", "below 5 mm", "median MPE mm", "largest mm"], by_view),
            "## Failures",
            outcomes.failures(records),
            "![MPE before and after](real_vessels.png)",
        ]
    )
    title = f"Real vessels: {len(records)} ray-cast runs of one brain"
    benchmarking.write_result("real_vessels", title, body, options, records)


if __name__ == "__main__":
    main()
