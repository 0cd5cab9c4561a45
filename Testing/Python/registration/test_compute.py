"""The correlation of the search: its values, and its bits wherever the buffers lie and however many threads there are."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy.signal import correlate

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration.compute.cpu import FftCorrelation

ROWS, MARGIN, BATCH = 48, 13, 6
CARM = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=720, rows=ROWS, columns=ROWS, pixel_spacing_mm=(4.0, 4.0))
WIDE = CARM.cropped(-MARGIN, -MARGIN, ROWS + 2 * MARGIN, ROWS + 2 * MARGIN)


def moved(array: np.ndarray, by_bytes: int) -> np.ndarray:
    """The same values, `by_bytes` behind an address that 64 divides."""
    store = np.zeros(array.nbytes + 128, dtype=np.uint8)
    first = -store.ctypes.data % 64 + by_bytes
    there = store[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    there[...] = array
    assert there.ctypes.data % 64 == by_bytes
    return there


def made(target: np.ndarray, drawn: np.ndarray, by_bytes: int = 0) -> FftCorrelation:
    correlation = FftCorrelation(moved(target, by_bytes), WIDE, BATCH)
    correlation.images = moved(correlation.images, by_bytes)
    correlation.images[..., : WIDE.rows, : WIDE.columns] = drawn
    return correlation


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A target (3, rows, columns) and images (batch, 3, rows, columns) in the window about it."""
    rng = np.random.default_rng(5)
    target = rng.normal(size=(3, ROWS, ROWS)).astype(np.float32)
    return target, rng.normal(size=(BATCH, 3, WIDE.rows, WIDE.columns)).astype(np.float32)


def test_products_are_the_sums_for_every_shift_in_the_window(pair: tuple[np.ndarray, np.ndarray]) -> None:
    target, drawn = pair
    products = made(target, drawn).products(BATCH)
    assert products.dtype == np.float32
    size = 2 * MARGIN + 1
    for image, found in zip(drawn, products, strict=True):
        exact = sum(
            correlate(image[channel].astype(np.float64), target[channel], "valid", "direct") for channel in range(3)
        )
        np.testing.assert_allclose(found[:size, :size], exact, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("by_bytes", range(4, 61, 4))
def test_the_bits_do_not_depend_on_where_the_images_lie(by_bytes: int, pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = made(*pair).products(BATCH)
    np.testing.assert_array_equal(made(*pair, by_bytes).products(BATCH), expected)


def test_the_bits_depend_neither_on_threads_nor_on_the_company(pair: tuple[np.ndarray, np.ndarray]) -> None:
    expected = made(*pair).products(BATCH)
    before = numba.get_num_threads()
    for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        numba.set_num_threads(threads)
        try:
            np.testing.assert_array_equal(made(*pair).products(BATCH), expected)
        finally:
            numba.set_num_threads(before)
    for count in range(1, BATCH):
        np.testing.assert_array_equal(made(*pair).products(count), expected[:count])
