"""Things to one transparent layer on the detector's grid, and the layer over a frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.results.report.images import to_grey, window_of
from DeepIterRegLib.results.roadmap.kernels import blend, over_grey, straight
from DeepIterRegLib.results.roadmap.shapes import Thing, depth_image

NOTICE = "Research use only"
DARKEST = 0.35  # of what is shaded and nearest to the source


def layer(things: Sequence[Thing], carm: CArm, cta_to_carm: np.ndarray) -> np.ndarray:
    """Things in their styles, those named later on top of those before: (row, column, 4) uint8, alpha not multiplied in.

    All shaded things share one range of depth, so that their brightness compares.
    """
    drawn = [depth_image(t.shape, carm, cta_to_carm, t.style.width_px, 2.5 * t.style.width_px) for t in things]
    # Of what is shaded alone: a catheter in one colour must not take up the range of the vessels.
    near, far = _depth_range([d for t, d in zip(things, drawn, strict=True) if t.style.shaded])
    picture = np.zeros((carm.rows, carm.columns, 4), dtype=np.float32)
    for thing, depths in zip(things, drawn, strict=True):
        style = thing.style
        edge_px = max(1, round(style.width_px)) if style.outline else 0
        darkest = np.float32(DARKEST if style.shaded else 1.0)
        colour = np.array(style.colour, dtype=np.float32)
        blend(depths, colour, np.float32(style.opacity), edge_px, darkest, np.float32(near), np.float32(far), picture)
    rgba = np.empty((carm.rows, carm.columns, 4), dtype=np.uint8)
    straight(picture, rgba)
    return rgba


def over(grey: np.ndarray, rgba: np.ndarray) -> np.ndarray:
    """A layer (row, column, 4) uint8 over a grey image (row, column) uint8: (row, column, 3) uint8."""
    picture = np.empty((*grey.shape, 3), dtype=np.uint8)
    over_grey(grey, rgba, picture)
    return picture


def grey_frame(angiogram: Angiogram, frame: int | None = None) -> np.ndarray:
    """One frame (from 0), or the MinIP of all, as uint8 in the run's window."""
    return to_grey(angiogram.minip() if frame is None else angiogram.frames[frame], window_of(angiogram))


def burn_notice(picture: np.ndarray, caption: str = "") -> np.ndarray:
    """A copy of a picture (row, column, 3) uint8 that says in its lower left corner what it may be used for; a caption on top."""
    image = Image.fromarray(picture)
    size = max(10, min(picture.shape[:2]) // 40)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    edge, style = size // 2, {"fill": (255, 255, 255), "stroke_width": max(1, size // 10), "stroke_fill": 0}
    pen.text((edge, picture.shape[0] - edge), NOTICE, font=font, anchor="ls", **style)
    if caption:
        pen.text((edge, edge), caption, font=font, anchor="lt", **style)
    return np.asarray(image).copy()


def write_png(path: Path, picture: np.ndarray) -> None:
    """A picture (row, column, 3 or 4) uint8; what stands on a background says what it may be used for."""
    # A layer is laid over something else, and its notice would stand in the way.
    Image.fromarray(burn_notice(picture) if picture.shape[2] == 3 else picture).save(path, format="PNG")


def _depth_range(depths: Sequence[np.ndarray]) -> tuple[float, float]:
    """Least and greatest depth of all that is drawn, a millimetre apart at least."""
    seen = [image[image > 0] for image in depths]
    seen = [values for values in seen if values.size]
    if not seen:
        return 0.0, 1.0
    low = min(float(values.min()) for values in seen)
    # A millimetre, as the shading divides by the range.
    return low, max(low + 1.0, *(float(values.max()) for values in seen))
