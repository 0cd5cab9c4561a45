"""Asking the network: veins of both images and poses to start from go in, poses come out."""

from __future__ import annotations

import numpy as np
import torch

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.network.model import PoseNetwork, corrected, pose_of_camera
from DeepIterRegLib.registration.network.view import canvas, coverage, dsa_channel
from DeepIterRegLib.rendering.splat import splat

# Points drawn of the CTA's veins: the canvas is coarse, more change nothing.
POINTS = 20000


def predict(
    network: PoseNetwork,
    cta_veins_mm: np.ndarray,
    blood_mm3: float,
    dsa_veins: np.ndarray,
    valid: np.ndarray,
    carm: CArm,
    starts: np.ndarray,
    rounds: int = 3,
) -> np.ndarray:
    """Poses (B, 4, 4), ``cta_to_carm``, that the network leads to from `starts` (B, 4, 4).

    Parameters
    ----------
    cta_veins_mm : (N, 3)
        Voxels of the CTA's veins, RAS mm, at least one.
    blood_mm3
        Volume of each.
    dsa_veins, valid : (row, column) bool
        Veins of the run, and where its pixels count.
    carm
        View of the run.
    rounds
        How often the network is asked; each time the CTA's veins are rendered at the last answer.
    """
    positions = cta_veins_mm[:: max(1, len(cta_veins_mm) // POINTS)]
    middle = positions.mean(axis=0)
    points = torch.from_numpy((positions - middle).astype(np.float32))
    weights = torch.full((len(points),), blood_mm3 * len(cta_veins_mm) / len(positions))

    settings = network.settings
    view = canvas(carm, settings.rows, settings.pixel_mm)
    run = torch.from_numpy(dsa_channel(dsa_veins, valid, carm, view)).expand(len(starts), -1, -1)
    source, axes = np.array(carm.source_mm), carm.axes
    centres = (starts[:, :3, :3] @ middle + starts[:, :3, 3] - source) @ axes.T
    cameras = torch.from_numpy(np.concatenate([axes @ starts[:, :3, :3], centres[..., None]], axis=-1)).float()
    with torch.inference_mode():
        for _ in range(rounds):
            images = torch.stack([coverage(splat(cameras, points, weights, view)), run], dim=1)
            cameras = corrected(cameras, network(images.contiguous(memory_format=torch.channels_last)))
    return pose_of_camera(cameras.double().numpy(), axes, source, middle)
