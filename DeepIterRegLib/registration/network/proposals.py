"""Poses that the network proposes for a scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.vessels.targets import View
from DeepIterRegLib.segmentation.cta.veins import vein_voxels
from DeepIterRegLib.segmentation.dsa import DsaMasks

if TYPE_CHECKING:
    from DeepIterRegLib.registration.network.model import PoseNetwork
from DeepIterRegLib.registration.scene import Scene

# Veins of a run smaller than this on the head tell the network nothing; the arterial phase has none.
_MIN_VEINS_MM2 = 100.0
_IMPORTED = 0.2  # of the work, the first time, when torch is there


@dataclass(frozen=True)
class NetworkInit:
    """How the network is asked.

    Attributes
    ----------
    weights
        File of the weights; empty for those that ship.
    starts
        Poses it is asked from: the one to start from, and others about it. The paper has one.
    rounds
        How often it is asked from each, every time at its last answer. The paper has one.
    spread_deg, spread_mm
        Largest offset of the other poses, every axis.
    """

    weights: str = ""
    starts: int = 32
    rounds: int = 2
    spread_deg: float = 30.0
    spread_mm: float = 30.0

    def __post_init__(self) -> None:
        if self.starts < 1 or self.rounds < 1:
            raise InputError("The network must be asked from at least one pose, at least once.")


def network_poses(
    scene: Scene,
    start: np.ndarray,
    settings: NetworkInit,
    seed: int,
    on_progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Poses (K, 4, 4) that the network leads to, asked with every view that shows veins; the first from `start` (4, 4) itself.

    Raises
    ------
    InputError
        Weights that cannot be used, or images without veins.
    """
    tell = on_progress or (lambda done: None)
    tell(0.0)
    from DeepIterRegLib.registration.network.predict import predict

    tell(_IMPORTED)
    shown = [
        (view, masks)
        for view, masks in zip(scene.views, scene.dsa_masks, strict=True)
        if _veins_mm2(view, masks) >= _MIN_VEINS_MM2
    ]
    if not shown:
        raise InputError("The DSA shows no veins (a run stopped early shows arteries only).")
    veins = vein_voxels(scene.cta_vessels.set_voxels)
    if not len(veins):
        raise InputError("The CTA's vessel mask has no large veins (nothing is left of it after opening by one voxel).")
    positions_mm = scene.cta_vessels.to_ras(veins)
    starts = _starts(start, scene.centre_cta_mm, settings, seed)
    answers: list[np.ndarray] = []
    for view, masks in shown:
        network = _network(settings.weights)
        tell((1 + len(answers)) / (1 + len(shown)))  # reading the network takes about as long as a view
        answers.append(
            predict(
                network,
                positions_mm,
                scene.cta_vessels.voxel_volume_mm3,
                masks.veins,
                view.valid,
                view.carm,
                starts,
                settings.rounds,
            )
        )
    return np.concatenate(answers)


def _veins_mm2(view: View, masks: DsaMasks) -> float:
    """Area of the veins that a view shows, on the head."""
    carm = view.carm
    pixel_mm2 = carm.pixel_spacing_mm[0] * carm.pixel_spacing_mm[1] / carm.magnification**2
    return float((masks.veins & view.valid).sum() * pixel_mm2)


def _starts(start: np.ndarray, centre_cta_mm: np.ndarray, settings: NetworkInit, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    offsets = rng.uniform(-1, 1, (settings.starts, 6))
    offsets[0] = 0
    turns = pose.euler_deg_to_rotation(offsets[:, :3] * settings.spread_deg)
    return np.asarray(pose.offset_about(start, centre_cta_mm, turns, offsets[:, 3:] * settings.spread_mm))


def _network(weights: str) -> PoseNetwork:
    from DeepIterRegLib.registration.network.weights import SHIPPED

    path = Path(weights) if weights else SHIPPED
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return _loaded_network(path, stamp)


@lru_cache(maxsize=1)
def _loaded_network(path: Path, stamp: int) -> PoseNetwork:
    """Read once as long as the file stays the same: reading and building take longer than the answer."""
    import torch

    from DeepIterRegLib.registration.network.weights import load_network

    return load_network(path).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
