"""Arrays to pictures: the projection of the vessels, grey frames, the red overlay."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.resampling import resample
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.rendering.voxels import Voxels

RED = np.array([225.0, 38.0, 46.0])
_PACKING = 3  # of PNG: a third of the time of the usual 6, and hardly larger, for frames even smaller


def vessel_projection(vessels: Volume, carm: CArm, cta_to_carm: np.ndarray) -> np.ndarray:
    """Length of vessel along each pixel's ray (row, column) float32, mm, for a mask at a pose (4, 4)."""
    (image,) = vessel_projections(vessels, carm, np.asarray(cta_to_carm)[None])
    return np.asarray(image)


def vessel_projections(vessels: Volume, carm: CArm, poses: np.ndarray) -> np.ndarray:
    """`vessel_projection` (P, row, column) at poses (P, 4, 4)."""
    return Voxels.of(vessels).images(poses, carm)


def projections_in_frames(vessels: Volume, carm: CArm, motion: FrameMotion) -> np.ndarray:
    """`vessel_projection` (P, row, column) at each position of the head, where the frames of the `Angiogram` show it."""
    seen = vessel_projections(vessels, carm, motion.cta_to_carm)
    return np.stack([as_shown(image, undone) for image, undone in zip(seen, motion.undone, strict=True)])


def as_shown(seen: np.ndarray, undone: np.ndarray) -> np.ndarray:
    """A picture (row, column) float32 of what the detector saw, where a frame shows it in which a displacement (2, 6) was undone."""
    if not undone.any():
        return seen
    moved = np.empty_like(seen)
    resample(seen, undone, np.ones(seen.shape, dtype=bool), np.zeros_like(seen), moved)
    return np.maximum(moved, 0)


def layer_as_shown(seen: np.ndarray, undone: np.ndarray) -> np.ndarray:
    """`as_shown` of a layer (row, column, 4) uint8, alpha not multiplied in."""
    if not undone.any():
        return seen
    alpha = seen[..., 3:].astype(np.float32)
    # Colours count by their alpha: what is transparent has none.
    channels = np.concatenate([seen[..., :3] * (alpha / 255), alpha], axis=-1)
    moved = np.stack([as_shown(np.ascontiguousarray(channels[..., n]), undone) for n in range(4)], axis=-1)
    moved[..., :3] *= 255 / np.maximum(moved[..., 3:], 1)
    return np.clip(moved + 0.5, 0, 255).astype(np.uint8)


def red_layer(projection: np.ndarray, alpha: float) -> np.ndarray:
    """Vessels (row, column), mm, in red as the report shows them, (row, column, 4) uint8."""
    layer = np.empty((*projection.shape, 4), dtype=np.uint8)
    layer[..., :3] = RED
    layer[..., 3] = 255 * alpha * opacity(projection) + 0.5
    return layer


def window_of(angiogram: Angiogram) -> tuple[float, float]:
    """Grey values shown as black and white, common to all frames: robust to outliers and shutters."""
    every = max(1, max(angiogram.valid.shape) // 256)
    # Without the shutter, whose black or white would set the window.
    frames = angiogram.frames[:, ::every, ::every][:, angiogram.valid[::every, ::every]]
    if frames.size == 0:
        return (-1.0, 1.0)
    # Black is the contrast at its densest: a vessel that is full in two of fifty frames would else be cut off.
    low = float(np.percentile(frames.min(axis=0), 1.0))
    high = float(np.percentile(frames, 99.0))
    # An even image would divide by nothing.
    return (low, high) if high > low else (low - 1.0, low + 1.0)


def to_grey(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Image (row, column) as uint8 in a window (black, white)."""
    low, high = window
    return np.clip((image - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)


def opacity(projection: np.ndarray) -> np.ndarray:
    """Projection (row, column) as 0..1 for display: thin vessels stay visible beside thick ones."""
    inside = projection[projection > 0]
    if inside.size == 0:
        return np.zeros_like(projection, dtype=np.float32)
    # Not the largest value: one vessel seen along its course would dim all others.
    return np.sqrt(np.clip(projection / max(float(np.percentile(inside, 98)), 1e-6), 0, 1)).astype(np.float32)


def tinted(grey: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Grey image (row, column) uint8 with red laid over it by `strength` 0..1; (row, column, 3) uint8."""
    a = strength[..., None]
    return (grey[..., None] * (1 - a) + RED * a + 0.5).astype(np.uint8)


def write_overlay(
    path: str | Path, angiogram: Angiogram, projection: np.ndarray, alpha: float = 0.75, stamp: str = ""
) -> None:
    """A PNG at detector resolution: the DSA's MinIP in grey, the projected vessels (row, column), mm, in red, `stamp` across its top."""
    grey = to_grey(angiogram.minip(), window_of(angiogram))
    picture = Image.fromarray(tinted(grey, alpha * opacity(projection)))
    if stamp:
        band = max(14, picture.height // 24)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((0, 0, picture.width, band), fill=tuple(RED.astype(int)))
        pen.text((band // 3, band // 8), stamp, fill=(255, 255, 255), font=ImageFont.load_default(0.7 * band))
    picture.save(path, format="PNG", compress_level=_PACKING)


def shrunk(image: np.ndarray, longest_px: int) -> np.ndarray:
    """Image (row, column) float32 with its longer side at most `longest_px`, by area averaging."""
    rows, columns = image.shape
    factor = max(rows, columns) / longest_px
    if factor <= 1:
        return image
    size = (max(1, round(columns / factor)), max(1, round(rows / factor)))
    # By area: picking pixels would drop vessels one pixel wide.
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize(size, Image.Resampling.BOX))


def png_url(grey: np.ndarray) -> str:
    """Picture (row, column) uint8 as a `data:` address, lossless."""
    return _data_url(grey, "png", compress_level=_PACKING)


def jpeg_url(grey: np.ndarray, quality: int) -> str:
    """Picture (row, column) uint8 as a `data:` address, small."""
    return _data_url(grey, "jpeg", quality=quality, optimize=True)


def _data_url(grey: np.ndarray, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
