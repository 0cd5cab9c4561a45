"""The skull in a run that came subtracted: bone that moved since the mask frame leaves a picture of its edges.

A skull whose shadow S has moved by a small d leaves -d . grad S in the subtracted frame. The direction of d is not known, and hardly
varies over the image, so the pose is asked how much of the residue some one direction of its own gradient explains.
(Resources/Docs/method.md, section 8.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.skull.gradient_correlation import knee_of
from DeepIterRegLib.registration.skull.movement import MovementTarget, detail
from DeepIterRegLib.registration.skull.settings import SkullSettings
from DeepIterRegLib.registration.skull.targets import SkullTarget
from DeepIterRegLib.registration.vessels.exhaustive import ShiftCorrelator, exhaustive_pass
from DeepIterRegLib.registration.vessels.least_squares import (
    LEVER_MM,
    Equations,
    camera_matrices,
    correlation_equations,
    image_norms,
)
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import gaussian_taps, resize_area

_COMPONENTS = 2  # across and down
_MODES = 2  # a picture moves in two directions
_MAX_FRAMES = 16  # that are told apart: patients move now and then
_BESIDE_PX = 1  # working pixels about vessels that are left out: there contrast outshines residue
_MIN_SHARE = 0.3  # of a working pixel that must be free of vessels
_NO_VESSEL = 0.02  # share of a fine pixel that vessels may cover
_FINE_ROWS = 256
_WHOLLY_VALID = 0.99
_NOTHING = 1e-9  # of a change of log intensity


@dataclass(frozen=True)
class Residue:
    """A subtracted run's frames off its vessels, on a fine grid.

    Attributes
    ----------
    frames : (t, rows, columns) float32
        0 where not `free`.
    free, valid : (rows, columns) float32, 1 or 0
        Where no vessel is, and where anything is seen.
    carm
        Of the run.
    """

    frames: np.ndarray
    free: np.ndarray
    valid: np.ndarray
    carm: CArm


def residue_of(angiogram: Angiogram, vessels: np.ndarray) -> Residue:
    """What a run (t, row, column) shows off its vessels (row, column), bool."""
    fine = angiogram.carm.working_grid(_FINE_ROWS)
    shape = fine.rows, fine.columns
    covered = resize_area(vessels.astype(np.float32), *shape) > _NO_VESSEL
    near = ndimage.binary_dilation(covered, iterations=_BESIDE_PX)
    valid = resize_area(angiogram.valid.astype(np.float32), *shape) > _WHOLLY_VALID
    free = valid & ~near
    count = len(angiogram.frames)
    group = -(-count // _MAX_FRAMES)
    frames = [resize_area(angiogram.frames[n : n + group].mean(axis=0), *shape) for n in range(0, count, group)]
    return Residue(np.stack(frames) * free, free.astype(np.float32), valid.astype(np.float32), angiogram.carm)


def make_residue_targets(residue: Residue, rows: int, sigma_px: float, knee: float) -> tuple[SkullTarget, ...]:
    """Targets of `residue_equations`: of each of the strongest patterns of the frames one across and one down.

    Parameters
    ----------
    residue
    rows, sigma_px
        Of the working grid, and blur in its pixels.
    knee
        As in `SkullSettings`.

    Raises
    ------
    InputError
        Nothing is seen off the vessels.
    """
    carm, inside, patterns = _strongest(residue, rows, sigma_px, knee)
    taps, targets = gaussian_taps(sigma_px), []
    for pattern in patterns.T:
        for component in range(_COMPONENTS):
            image = np.zeros((_COMPONENTS, *inside.shape), np.float32)
            image[component][inside] = pattern
            targets.append(SkullTarget(image, inside.astype(np.float32), carm, taps))
    return tuple(targets)


def make_movement_target(residue: Residue, rows: int, sigma_px: float, knee: float) -> MovementTarget:
    """Target of `movement.movement_equations`; arguments and errors as of `make_residue_targets`."""
    carm, inside, patterns = _strongest(residue, rows, sigma_px, knee)
    return MovementTarget(patterns.astype(np.float32), inside, carm, gaussian_taps(sigma_px))


def _strongest(residue: Residue, rows: int, sigma_px: float, knee: float) -> tuple[CArm, np.ndarray, np.ndarray]:
    """The grid, where on it bone would be seen (rows, columns) bool, and there the strongest patterns (N, M), as long as their share."""
    coarse = residue.carm.working_grid(rows)
    shape = coarse.rows, coarse.columns
    valid = resize_area(residue.valid, *shape) > _WHOLLY_VALID
    valid = ndimage.binary_erosion(np.pad(valid, 1), iterations=int(np.ceil(2 * sigma_px)) + 1)[1:-1, 1:-1]
    share = resize_area(residue.free, *shape)
    inside = valid & (share > _MIN_SHARE)
    if not inside.any():
        raise InputError("Too little of the run is free of vessels for the skull's edges to be seen in it.")
    weight = np.maximum(ndimage.gaussian_filter(share * valid, sigma_px), 1e-3)
    images = [
        ndimage.gaussian_filter(resize_area(frame, *shape) * valid, sigma_px) / weight for frame in residue.frames
    ]
    series = detail(np.stack(images), inside)
    length = np.linalg.norm(series, axis=0)
    if not length.mean() > _NOTHING:
        raise InputError("Nothing but vessels is seen in the run: no bone moved in it.")
    series /= 1 + length / (knee * float(length.mean()))
    _, sizes, patterns = np.linalg.svd(series, full_matrices=False)
    # By the root of their size: the weaker one counts for more than its share, as its direction is the other one's blind one.
    shares = np.sqrt(sizes[:_MODES] / max(float(sizes[:_MODES].sum()), 1e-12))
    return coarse, inside, patterns[:_MODES].T * shares


def residue_equations(points: Points, targets: Sequence[SkullTarget], knee: float) -> Equations:
    """As `gradient_correlation.gradient_equations`: share of the residue that the skull's gradient explains, moved as fits it best.

    The score is the length of the vector of correlations with all targets, of which the best movement is the direction.
    """
    carm = targets[0].carm
    knee_mm = knee_of(points, carm, targets[0].taps, knee)

    def equations(poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cameras, centres = camera_matrices(poses, points.origin_mm, carm)
        out = [compute.skull_products(points, cameras, centres, LEVER_MM, target, knee_mm) for target in targets]
        gram, cross = out[0][:, :7], np.stack([each[:, 7] for each in out])
        length = np.maximum(np.linalg.norm(cross[:, :, 0], axis=0), 1e-12)
        along = np.einsum("tb,tbi->bi", cross[:, :, 0] / length, cross)
        return correlation_equations(gram, along / image_norms(gram)[:, None])

    return equations


def residue_exhaustive(
    points: Points,
    targets: Sequence[SkullTarget],
    start: np.ndarray,
    centre_cta_mm: np.ndarray,
    settings: SkullSettings,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As `gradient_correlation.exhaustive`, for the targets of `residue_equations`."""
    # The strongest pattern alone: the others take as long again, and change the ranks little.
    across, down = targets[:_COMPONENTS]
    drawing = compute.SkullDrawing(points, across.taps, knee_of(points, across.carm, across.taps, settings.knee))
    image, reach_mm = across.image + down.image, settings.translation_mm
    correlate = ShiftCorrelator(image, across.valid, across.carm, reach_mm, 1.0, drawing, apart=True)
    return exhaustive_pass(
        correlate, points.origin_mm, start, centre_cta_mm, settings, settings.candidates, should_stop=should_stop
    )
