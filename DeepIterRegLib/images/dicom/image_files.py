"""PNG and TIFF as a run: grey frames, no geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.quiet import listening
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.images.picture_checks import check_picture, check_size, tifffile_log

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"})


def read_image_frames(path: Path) -> tuple[np.ndarray, float]:
    """Frames (t, row, column) float32 and the largest value their type can hold.

    Raises
    ------
    InputError
        Absent, not an image, in colour, not finite, or all one value.
    """
    array = read_pixels(path)
    frames = array.astype(np.float32)
    if not np.isfinite(frames).all():
        raise InputError(f"{name_of(path)} holds values that are not finite numbers.")
    full_scale = float(np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else float(frames.max())
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
    check_picture(path)
    array = _decoded(path)
    if array.ndim >= 3 and array.shape[-1] in (2, 3, 4) and min(array.shape[:2]) > 4:
        grey = array[..., 0]
        colours = array[..., : min(array.shape[-1], 3)] if array.shape[-1] > 2 else array[..., :1]
        # Grey images are often saved with three equal colours: those are taken.
        if (colours != grey[..., None]).any():
            raise InputError(f"{name_of(path)} is in colour; give a grey image of the angiogram.")
        array = grey
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.size == 0 or min(array.shape[1:]) < 2 or array.dtype.kind not in "biuf":
        raise InputError(f"{name_of(path)} has shape {array.shape}; one image, or a stack of frames, is needed.")
    return array


def _decoded(path: Path) -> np.ndarray:
    """As the file's reader has it. What readers say in their errors may quote bytes of the file."""
    tiff = path.suffix.lower() in (".tif", ".tiff")
    try:
        with listening():
            return _by_tifffile(path) if tiff else _by_pillow(path)
    except InputError:
        raise
    except Exception:  # of their own kinds, at damaged files
        raise InputError(
            f"{name_of(path)} cannot be read as an image: it is damaged, or no PNG, TIFF, JPEG or BMP; copy it again."
        ) from None


def _by_tifffile(path: Path) -> np.ndarray:
    """Its first series. What cannot be decoded is told, where tifffile only logs it and fills it with 0."""
    import tifffile

    with tifffile_log() as told:
        array: np.ndarray = tifffile.imread(path)
    if "ERROR" in told or "CRITICAL" in told:
        raise InputError(f"{name_of(path)} is damaged: a part of its pixels cannot be decoded; copy it again.")
    return array


def _by_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        check_size(name_of(path), getattr(image, "n_frames", 1), image.height, image.width)
        # A palette image holds places in its palette, not grey values.
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)
