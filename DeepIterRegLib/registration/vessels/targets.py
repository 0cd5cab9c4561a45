"""The run's vessels as an image to compare with: amount and direction, at a working resolution (Resources/Docs/method.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.registration import compute

# Directions vary slowly: no need to find them at full resolution.
_DIRECTION_ROWS = 512
# Blur before the gradient, px at 512 rows: about 0.9 mm on a 300 mm detector, less than half of a main branch's width. The
# tensor is blurred by twice as much, so that both walls of a vessel, whose gradients point apart, are averaged.
_GRADIENT_SIGMA_PX = 1.5
# Of the strongest gradient: where the tensor is weaker, the direction is noise and shrinks towards none.
_NO_DIRECTION = 1e-9
# Share of a coarse pixel that must be valid for it to count.
_MIN_VALID_SHARE = 0.5
# A Gaussian is cut off where 0.3 % of it are left.
_CUT_SIGMAS = 3


@dataclass(frozen=True)
class Measure:
    """How images are compared: <image, target> / |image|^norm_power over the three channels of `vessel_channels`.

    Attributes
    ----------
    direction_weight
        How much the two channels of direction count beside that of amount. Vessels that cross by chance agree in
        amount, hardly in direction.
    norm_power
        At 1 the measure is ZNCC, at 0 the share of the target that is covered. The CTA shows far more vessels than
        the run: the lower, the less costs what the run does not show.
    """

    direction_weight: float
    norm_power: float

    @property
    def direction_scale(self) -> float:
        """What the channels of direction are multiplied by, in both images, so that their products count as they should."""
        return float(np.sqrt(self.direction_weight))


# Path through vessels, mm, at which the moving image has fallen to half of linear: about the width of a carotid, so
# that a sinus or a bundle counts hardly more than one. Of 40 development phantoms 37 were found at 5 mm, 35 at 20 mm.
SATURATION_MM = 5.0

# Tells poses apart. Of 24 hard and easy seeds 15 were told apart at norm power 1, 19 at 0.5; at 0.25 21, but no more end to
# end. More weight of directions than 16 hardly adds to that.
FIND = Measure(16.0, 0.5)
# ZNCC, unbiased near the truth: on exact images `FIND` ends 0.44 mm off, this below 0.15 mm.
REFINE = Measure(1.0, 1.0)


@dataclass(frozen=True, eq=False)  # each is itself, as its targets are kept by it
class View:
    """A run as vessels are aligned to it.

    Attributes
    ----------
    channels : (3, rows, columns) float32
        Of its contrast, as from `vessel_channels`.
    valid : (rows, columns) bool
        Where they count.
    carm
        All views of a registration are of one C-arm frame, in which the head lies still.
    """

    channels: np.ndarray
    valid: np.ndarray
    carm: CArm


@dataclass(frozen=True)
class Target:
    """A vessel image prepared for ZNCC at one resolution.

    Attributes
    ----------
    image : (3, rows, columns) float32
        `vessel_channels`, blurred; the first of zero mean over `valid`, the others times the measure's
        `direction_scale`, all together of unit norm; zero outside `valid`.
    valid : (rows, columns) float32, 1 or 0
    carm
        View on this grid.
    taps : (radius + 1,) float32
        Half of the Gaussian that the moving image is blurred with.
    measure
    """

    image: np.ndarray
    valid: np.ndarray
    carm: CArm
    taps: np.ndarray
    measure: Measure


def gaussian_taps(sigma_px: float) -> np.ndarray:
    """Half (radius + 1,) float32 of a normalised Gaussian, centre first, out to 3 sigma."""
    radius = max(1, int(np.ceil(_CUT_SIGMAS * sigma_px)))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma_px) ** 2)
    return (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)


def resize_area(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of an image (r, c) over each pixel of another grid, (rows, columns) float32.

    The area, not the nearest pixel, so that thin vessels keep their weight on coarse grids.
    """
    out = np.empty((rows, columns), np.float32)
    compute.area_means(image, out)
    return out


def vessel_channels(vessels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """A vessel image (r, c), 0 where not `valid` (r, c), and it times the cosine and sine of twice the vessels' angle: (3, r, c).

    The angle runs from the column axis towards the row axis; doubled, a vessel and its reverse are the same. The
    directions come from the structure tensor, at the scale of the larger vessels, and shrink where it names none.
    """
    image = np.where(valid, vessels, 0).astype(np.float32)
    rows, columns = image.shape
    shrink = max(1.0, rows / _DIRECTION_ROWS)
    coarse = resize_area(image, round(rows / shrink), round(columns / shrink))
    scale = max(1.0, _GRADIENT_SIGMA_PX * coarse.shape[0] / _DIRECTION_ROWS)
    smooth = ndimage.gaussian_filter(coarse, scale)
    down, across = ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)
    dd, aa, ad = (ndimage.gaussian_filter(g, 2 * scale) for g in (down * down, across * across, across * down))
    total = dd + aa
    total += _NO_DIRECTION * max(float(total.max()), 1e-20)
    # A vessel runs across its gradient.
    cosine, sine = (resize_area(part / total, rows, columns) for part in (dd - aa, -2 * ad))
    return np.stack([image, image * cosine, image * sine])


def make_target(
    channels: np.ndarray,
    valid: np.ndarray,
    carm: CArm,
    rows: int,
    sigma_px: float,
    measure: Measure,
    part: np.ndarray | None = None,
) -> Target:
    """Target of `vessel_channels` on a working grid.

    The blurred images count only where at least half of the coarse pixel is valid.

    Parameters
    ----------
    channels : (3, r, c)
        On the grid of `carm`.
    valid : (r, c) bool
        Where they count.
    carm
    rows
        Of the working grid.
    sigma_px
        Blur, px of the working grid: wide enough that vessels a pixel apart still pull on each other.
    measure
    part : (r, c) bool
        Where the channels are taken as they are, 0 elsewhere; None for everywhere.
    """
    coarse = carm.working_grid(rows)
    columns = coarse.columns
    coarse_valid = resize_area(valid.astype(np.float32), rows, columns) >= _MIN_VALID_SHARE
    taps = gaussian_taps(sigma_px)
    image = compute.shrunk(channels, part, (rows, columns), taps)
    image[0] -= image[0][coarse_valid].mean()
    image[1:] *= measure.direction_scale
    image *= coarse_valid
    image /= max(float(np.linalg.norm(image)), 1e-12)
    return Target(
        image.astype(np.float32),
        coarse_valid.astype(np.float32),
        coarse,
        taps,
        measure,
    )


def make_targets(views: Sequence[View], rows: int, sigma_px: float, measure: Measure) -> tuple[Target, ...]:
    """`make_target` of each view, made once as long as the view lives."""
    return tuple(target_of(view, rows, sigma_px, measure) for view in views)


_made: WeakKeyDictionary[View, dict[tuple[int, float, Measure], Target]] = WeakKeyDictionary()


def target_of(view: View, rows: int, sigma_px: float, measure: Measure) -> Target:
    """`make_target` of a view, made once as long as the view lives."""
    of_view = _made.setdefault(view, {})
    wanted = rows, sigma_px, measure
    if wanted not in of_view:
        of_view[wanted] = make_target(view.channels, view.valid, view.carm, *wanted)
    return of_view[wanted]
