"""PNG and TIFF as a run: grey frames, no geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import name_of

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})


def read_image_frames(path: Path) -> tuple[np.ndarray, float]:
    """Frames (t, row, column) float32 and the largest value their type can hold.

    Raises
    ------
    InputError
        Absent, not an image, in colour, not finite, or all one value.
    """
    array = read_pixels(path)
    full_scale = float(np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else float(np.nanmax(array))
    frames = array.astype(np.float32)
    if not np.isfinite(frames).all():
        raise InputError(f"{name_of(path)} holds values that are not finite numbers.")
    if frames.min() == frames.max():
        raise InputError(f"All pixels of {name_of(path)} have the value {frames.flat[0]:g}: the image is empty.")
    return frames, full_scale


def read_pixels(path: Path) -> np.ndarray:
    """The pixels (t, row, column) of an image file as stored.

    Raises
    ------
    InputError
        Absent, not an image, or in colour.
    """
    if not path.is_file():
        raise InputError(f"{name_of(path)} does not exist.")
    try:
        with listening():
            array = _decoded(path)
    except (OSError, ValueError, SyntaxError, KeyError, RuntimeError):
        raise InputError(f"{name_of(path)} cannot be read as an image: it is damaged, or of another kind.") from None
    return _grey(array, path)


def _decoded(path: Path) -> np.ndarray:
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        return np.asarray(tifffile.imread(path))
    from PIL import Image

    with Image.open(path) as image:
        # A palette image holds places in its palette, not grey values.
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def _grey(array: np.ndarray, path: Path) -> np.ndarray:
    """The pixels (t, row, column) of an array that may have an axis of colours."""
    if array.ndim >= 3 and array.shape[-1] in (2, 3, 4) and min(array.shape[:2]) > 4:
        grey = array[..., 0]
        colours = array[..., : min(array.shape[-1], 3)] if array.shape[-1] > 2 else array[..., :1]
        # Grey images are often saved with three equal colours: those are taken.
        if (colours != grey[..., None]).any():
            raise InputError(f"{name_of(path)} is in colour; give a grey image of the angiogram.")
        array = grey
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or min(array.shape[1:]) < 2:
        raise InputError(f"{name_of(path)} has shape {array.shape}; one image, or a stack of frames, is needed.")
    return array
