"""All that search and refinement ask of the hardware: one seam, two backends.

Points and targets are those of the vessels or the skull; cameras come from `least_squares.camera_matrices`. `on` chooses the
backend for all that is computed inside it: numba's on the CPU (`cpu`), or torch's on a card (`tensors`, and `fused` where there is
Triton). The choice changes how long an answer takes, not the answer, so nobody who asks has to know it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from DeepIterRegLib.common.devices import CPU, NoMemory, named
from DeepIterRegLib.registration.compute import cpu
from DeepIterRegLib.registration.compute.cpu import (
    area_means,
    block_means,
    draw_skull,
    draw_vessels,
    filtered,
    main_axes,
    skull_changes,
)
from DeepIterRegLib.registration.compute.drawings import (
    Backend,
    Drawing,
    ShiftScores,
    SkullDrawing,
    VesselDrawing,
    Window,
)

if TYPE_CHECKING:
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.points import Points
    from DeepIterRegLib.registration.vessels.targets import Target

__all__ = [
    "SkullDrawing",
    "VesselDrawing",
    "Window",
    "area_means",
    "begin",
    "block_means",
    "by",
    "draw_skull",
    "draw_vessels",
    "filtered",
    "main_axes",
    "on",
    "shift_scores",
    "shrunk",
    "skull_changes",
    "skull_products",
    "vessel_products",
]

T = TypeVar("T")
_begun: set[str] = set()
_making = threading.Lock()
_CPU = cast(Backend, cpu)


@dataclass
class Computing:
    """Where it is computed.

    Attributes
    ----------
    name
        Of the device, for people.
    full
        Whether a card's memory did not suffice, so that the CPU went on.
    """

    name: str = CPU
    full: bool = False
    backend: Backend = field(default=_CPU, repr=False)

    def go_on_without_card(self) -> None:
        """From here on the CPU computes."""
        self.full, self.backend = True, _CPU


_computing: ContextVar[Computing] = ContextVar("computing", default=Computing())  # noqa: B039  # never changed: `on` sets another


def begin(device: str) -> None:
    """Have what a card needs made beside other work, the first time: torch, the driver's part of this process, and kernels.

    What goes wrong is told by `on`.
    """
    if device == "cpu" or device in _begun:
        return
    _begun.add(device)

    def make() -> None:
        with suppress(Exception):
            if (card := named(device)) is not None:
                card_backend(card.device)

    threading.Thread(target=make, name="DeepIterReg card", daemon=True).start()


@contextmanager
def on(device: str) -> Iterator[Computing]:
    """Compute on a device, `cpu`, `cuda`, `cuda:1` or `auto`, for a card where there is one; gives where that is.

    Raises
    ------
    InputError
        There is no such device.
    """
    card = named(device)
    with by(_CPU if card is None else card_backend(card.device), CPU if card is None else card.name) as computing:
        yield computing


@contextmanager
def by(backend: Backend, name: str) -> Iterator[Computing]:
    """Compute by a backend, said to be on a device of that name."""
    token = _computing.set(Computing(name, backend=backend))
    try:
        yield _computing.get()
    finally:
        _computing.reset(token)


def card_backend(device: str) -> Backend:
    """The backend of a card, by torch's name of it; one for all registrations of the process."""
    with _making:
        return _made_backend(device)


@cache
def _made_backend(device: str) -> Backend:
    from DeepIterRegLib.registration.compute.tensors import TorchBackend

    return TorchBackend(device)


def _ask(what: Callable[[Backend], T]) -> T:
    """The backend's answer, or the CPU's from where a card has no memory left."""
    computing = _computing.get()
    try:
        return what(computing.backend)
    except NoMemory:
        computing.go_on_without_card()
        return what(_CPU)


def shrunk(images: np.ndarray, part: np.ndarray | None, shape: tuple[int, int], taps: np.ndarray) -> np.ndarray:
    """Means (C, *shape) float32 of images (C, r, c) over each pixel of another grid, then blurred by a filter's half `taps`.

    Outside of the `part` (r, c), where one is given, the images count as 0. The images are kept by a card as long as they live, so
    nobody may change them.
    """
    return _ask(lambda at: at.shrunk(images, part, shape, taps))


def vessel_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: Target, saturation_mm: float
) -> np.ndarray:
    """Inner products (B, 9, 7) of the oriented image at cameras (B, 3, 4), its six pose derivatives, and the target.

    Rows 0 to 6 are the Gram matrix over the valid pixels of all channels, row 7 the sums of the first channel, row 8 the
    products with the target; centres (B, 3), camera mm, are what rotations turn about, in units of `lever_mm`.
    """
    return _ask(lambda at: at.vessel_products(points, cameras, centres, lever_mm, target, saturation_mm))


def skull_products(
    points: Points, cameras: np.ndarray, centres: np.ndarray, lever_mm: float, target: SkullTarget, knee_mm: np.float32
) -> np.ndarray:
    """Inner products (B, 8, 7) of the skull's shortened gradients at cameras (B, 3, 4), their derivatives, and the target.

    Rows 0 to 6 are the Gram matrix over the valid pixels of both components, row 7 the products with the target; else as
    `vessel_products`.
    """
    return _ask(lambda at: at.skull_products(points, cameras, centres, lever_mm, target, knee_mm))


def shift_scores(drawing: Drawing, window: Window) -> ShiftScores:
    """Normalised correlations of a drawing with a target, for all shifts of a window at once."""
    return _Shifts(drawing, window)


class _Shifts:
    """`ShiftScores` of the backend, or the CPU's from where a card has no memory left."""

    def __init__(self, drawing: Drawing, window: Window) -> None:
        self._drawing, self._window = drawing, window
        self._scores = _ask(lambda at: at.shift_scores(drawing, window))

    @property
    def batch(self) -> int:
        return self._scores.batch

    def best(self, cameras: np.ndarray, peaks: int) -> tuple[np.ndarray, np.ndarray]:
        return self._ask(lambda scores: scores.best(cameras, peaks))

    def maps(self, cameras: np.ndarray) -> np.ndarray:
        return self._ask(lambda scores: scores.maps(cameras))

    def _ask(self, what: Callable[[ShiftScores], T]) -> T:
        try:
            return what(self._scores)
        except NoMemory:
            _computing.get().go_on_without_card()
            self._scores = _CPU.shift_scores(self._drawing, self._window)
            return what(self._scores)
