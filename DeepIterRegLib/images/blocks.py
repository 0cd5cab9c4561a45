"""Small works on images: means of blocks of pixels, masks without their rim."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def binned(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of `factor` x `factor` pixels of an image (row, column), float32; what fills no block is left out."""
    rows, columns = (n // factor * factor for n in image.shape)
    parts = [image[i:rows:factor, j:columns:factor] for i in range(factor) for j in range(factor)]
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    total /= factor * factor
    return total


def eroded(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask (row, column) bool without what lies within `pixels` of its outside or of the image's edge."""
    return np.asarray(ndimage.distance_transform_cdt(np.pad(mask, 1), metric="chessboard")[1:-1, 1:-1] > pixels)
