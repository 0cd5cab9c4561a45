"""A helix of vessel registered to its own run, without a second of computing: what report and scene show. No Slicer."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import InitRecord, Registration, StageRecord
from DeepIterRegLib.results.report.images import vessel_projection

TURN_DEG, SHIFT_MM = np.array([4.0, -3.0, 7.0]), np.array([5.0, -6.0, 2.0])  # from the radiological pose


def helix() -> Volume:
    """A helix of vessel, thick enough to see: 40 mm radius, 60 mm high, 1 mm voxels, its middle off the origin."""
    voxels = np.zeros((90, 120, 110), dtype=bool)
    t = np.linspace(0, 4 * np.pi, 4000)
    centre = np.stack([15 + 60 * t / t[-1], 60 + 40 * np.cos(t), 55 + 40 * np.sin(t)], axis=-1)
    for shift in np.ndindex(3, 3, 3):
        voxels[tuple((centre.round().astype(int) + np.array(shift) - 1).T)] = True
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[:3, 3] = [80.0, 20.0, -300.0]
    return Volume(voxels, affine)


def registered(carm: CArm, bolus: np.ndarray) -> tuple[Registration, Angiogram, Volume]:
    """The helix in a run of a view with so much contrast in each frame, and its registration: a stage by levels, one by iterations."""
    vessels = helix()
    start = pose.radiological(vessels.centre_mm)
    found = np.asarray(pose.offset_about(start, vessels.centre_mm, pose.euler_deg_to_rotation(TURN_DEG), SHIFT_MM))
    shadow = vessel_projection(vessels, carm, found)
    noise = np.random.default_rng(1).normal(0, 0.02, (1, carm.rows, carm.columns))
    frames = (noise - 0.1 * bolus[:, None, None] * shadow).astype(np.float32)
    angiogram = Angiogram(frames, carm, np.arange(len(bolus)) / 3, np.ones(shadow.shape, bool))
    registration = Registration(
        cta_to_carm=found,
        carm=carm,
        centre_cta_mm=vessels.centre_mm,
        score=0.8125,
        init=InitRecord("search", True, 0.7, 0.1),
        stages=(
            StageRecord("Search", "directed correlation", 3.5, (2.5, 4.25, 3.5), 1.5, 12),
            StageRecord("Stage 1: MinIP", "mutual_information", 1.2, tuple(np.linspace(1.0, 1.2, 30)), 0.5, 30),
        ),
        seconds={"search": 1.5, "refine": 0.5, "total": 2.0},
        warnings=("The table moved.",),
        settings={"preset": "default", "search": {"rows": 96, "levels": [{"rows": 128}, {"rows": 192}]}},
        versions={"deepiterreg": "0.1.0"},
    )
    return registration, angiogram, vessels
