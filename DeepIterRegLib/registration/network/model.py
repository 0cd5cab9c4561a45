"""The network of paper A (3.1.2): two images in, the correction of a pose out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.registration.network.backbone import FEATURES, ResNet18

HIDDEN = 2048


@dataclass(frozen=True)
class NetworkSettings:
    """What a set of weights was made for.

    Attributes
    ----------
    rows
        Side of the square input in px.
    pixel_mm
        Size of its pixels at the isocentre: every C-arm is brought to it, so that a mm looks the same in each.
    rotation_deg, translation_mm
        Largest correction on each axis of the detector (u along a row, v along a column, d along the beam): scale of
        the tanh.
    dropout
        Share of the hidden layer left out while training.
    """

    rows: int = 128
    pixel_mm: float = 2.0
    rotation_deg: tuple[float, float, float] = (60.0, 60.0, 60.0)
    translation_mm: tuple[float, float, float] = (70.0, 70.0, 70.0)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if self.rows < 32 or self.rows % 32:
            problems.append(f"network.rows is {self.rows}: give a multiple of 32.")
        if not 0.1 <= self.pixel_mm <= 20:
            problems.append(f"network.pixel_mm is {self.pixel_mm:g}: 0.1 to 20 mm make sense.")
        if len(self.rotation_deg) != 3 or not all(0 < value <= 180 for value in self.rotation_deg):
            problems.append("network.rotation_deg must be three numbers above 0, at most 180.")
        if len(self.translation_mm) != 3 or not all(0 < value <= 500 for value in self.translation_mm):
            problems.append("network.translation_mm must be three numbers above 0, at most 500.")
        if not 0 <= self.dropout < 1:
            problems.append(f"network.dropout is {self.dropout:g}: give 0 to below 1.")
        if problems:
            raise InputError(problems)


class PoseNetwork(nn.Module):
    """ResNet18 with two input channels, 2048 hidden units, two heads (A 3.1.2)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.backbone = ResNet18(channels=2)
        self.hidden = nn.Linear(FEATURES, HIDDEN)
        self.dropout = nn.Dropout(settings.dropout)
        self.rotation = nn.Linear(HIDDEN, 3)
        self.translation = nn.Linear(HIDDEN, 3)
        for layer in (self.hidden, self.rotation, self.translation):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.rotation_scale: Tensor
        self.translation_scale: Tensor
        # Not kept with the weights: they follow from the settings on the card.
        self.register_buffer("rotation_scale", torch.tensor(settings.rotation_deg) * (math.pi / 180), persistent=False)
        self.register_buffer("translation_scale", torch.tensor(settings.translation_mm), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Corrections (B, 6), see `corrected`, from images (B, 2, rows, rows): CTA at the pose, DSA; see `view`."""
        features = self.dropout(torch.relu(self.hidden(self.backbone(images))))
        # Back to 32 bits first: bf16 would round a correction of 70 mm to a quarter of a millimetre.
        rotation = torch.tanh(self.rotation(features).float()) * self.rotation_scale
        translation = torch.tanh(self.translation(features).float()) * self.translation_scale
        return torch.cat([rotation, translation], dim=1)


def corrected(cameras: Array, corrections: Array) -> Array:
    """Cameras after the network's corrections.

    Parameters
    ----------
    cameras : (..., 3, 4)
        CTA mm about the middle of its veins to camera mm (axes u, v, d of the detector, from the source).
    corrections : (..., 6)
        Rotation vector in radians about that middle, then its shift in mm; both along u, v, d.
    """
    xp = namespace(cameras, corrections)
    turned = pose.so3_exp(corrections[..., :3]) @ cameras[..., :3]
    return xp.concat([turned, cameras[..., 3:] + corrections[..., 3:, None]], axis=-1)


def correction_between(cameras: Array, truth: Array) -> Array:
    """The correction (..., 6) that brings cameras (..., 3, 4) to `truth`; inverse of `corrected`."""
    xp = namespace(cameras, truth)
    rotation = truth[..., :3] @ xp.linalg.matrix_transpose(cameras[..., :3])
    return xp.concat([pose.so3_log(rotation), truth[..., 3] - cameras[..., 3]], axis=-1)


def pose_of_camera(camera: np.ndarray, axes: np.ndarray, source_mm: np.ndarray, middle_mm: np.ndarray) -> np.ndarray:
    """``cta_to_carm`` (..., 4, 4) of cameras (..., 3, 4) about `middle_mm`, seen along `axes` from `source_mm`."""
    rotation = like(axes, camera).T @ camera[..., :3]
    centre = camera[..., 3] @ axes + source_mm
    return np.asarray(pose.matrix(rotation, centre - rotation @ middle_mm))
