"""Phantom patients as small files for `gpu_training.py`, where neither DICOM nor CTA can be read: 75 kB each.

    python Testing/Benchmarks/gpu_training_data.py FOLDER --patients 28 --tuned 3

Seeds for development, none that judges. CTA and run are segmented by ours, as `register` does.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import network
import numpy as np
import robustness

SEED = 1200  # for development
STARTS = 8
CANVAS_ROWS, CANVAS_MM = 128, 2.0


def cameras(poses: np.ndarray, middle_mm: np.ndarray, carm: object) -> np.ndarray:
    """Cameras (K, 3, 4) about `middle_mm` of poses (K, 4, 4)."""
    source, axes = np.array(carm.source_mm), carm.axes  # type: ignore[attr-defined]
    centres = (poses[:, :3, :3] @ middle_mm + poses[:, :3, 3] - source) @ axes.T
    return np.concatenate([axes @ poses[:, :3, :3], centres[..., None]], axis=-1).astype(np.float32)


def write_patient(seed: int, folder: Path, tuned: bool) -> None:
    """`patient<seed>.npz`, and for fine-tuning `tuned<seed>.npz`."""
    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.registration.network.patient_heads import vessel_points_of
    from DeepIterRegLib.registration.network.predict import POINTS
    from DeepIterRegLib.registration.network.view import canvas, dsa_channel
    from DeepIterRegLib.segmentation.cta.veins import vein_voxels
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.studies.experiments.objects import run_as_read

    patient = make_patient(seed, robustness.phantom_settings(False))
    run, carm, truth, centre = run_as_read(patient), patient.carm, patient.cta_to_carm, patient.cta.centre_mm
    vessels, masks = segment_vessels(patient.cta), segment_dsa(run)
    placed = vessels.to_ras(vein_voxels(vessels.set_voxels))
    used = placed[:: max(1, len(placed) // POINTS)]
    middle = used.mean(axis=0)
    rng = np.random.default_rng([seed, 4])
    px_mm = carm.rows * carm.pixel_spacing_mm[0] / network.PX_ROWS / carm.magnification
    starts = [network.perturbed(rng, truth, centre, px_mm, 1.0) for _ in range(STARTS)]
    view = canvas(carm, CANVAS_ROWS, CANVAS_MM)
    np.savez_compressed(
        folder / f"patient{seed}.npz",
        points=np.rint((used - middle) * 100).astype(np.int16),
        blood=np.float32(vessels.voxel_volume_mm3 * len(placed) / len(used)),
        channel=dsa_channel(masks.veins, run.valid, carm, view).astype(np.float16),
        starts=cameras(np.stack([*starts, pose.radiological(centre)]), middle, carm),
        truth=cameras(truth[None], middle, carm)[0],
        cube=(np.asarray(centre) - middle).astype(np.float32),
        distances=np.array([carm.sid_mm, carm.sod_mm], dtype=np.float32),
    )
    if tuned:
        position, radius, vein = vessel_points_of(vessels, centre)
        np.savez_compressed(
            folder / f"tuned{seed}.npz",
            position=np.rint(position * 100).astype(np.int16),
            radius=radius.astype(np.float16),
            vein=vein,
            blood=np.float32(vessels.voxel_volume_mm3 * len(vessels.set_voxels) / len(position)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=28)
    parser.add_argument("--tuned", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.patients):
        begin = time.monotonic()
        write_patient(SEED + number, options.folder, number < options.tuned)
        print(f"{SEED + number}: {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
