"""Does a stack of slices show a head, and contrast in its vessels? Measured on a coarse sample, since tags are often absent or copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.images.cta_checks import MIN_BRAIN_CM3
from DeepIterRegLib.images.dicom.ct_pixels import sampled
from DeepIterRegLib.images.dicom.ct_stacks import Series

_SLICES = 40  # of a scan from the arch to the vertex, ten show the brain
_PIXEL_MM = 1.0
_BONE_HU, _AIR_OF_HU, _OFFSET = 300, -200, 1024
_BETWEEN_MM = 2.5  # slices that run along the patient
_SMALLEST_MM = 60.0  # of a head
_GAP_MM = 4.0  # half the width of an opening of the skull that still counts as closed
_INWARD_MM = 6.0  # further in than that: sinuses and partial volume of bone are nearer
_WIDE_MM = 10.0  # half the width of what may be a brain
_HIGH = 0.6  # of the largest area: slices above the skull base, where no bone lies inside
_TAIL_PERCENT = 0.3  # vessels fill about a hundredth of the brain, calcifications far less than a thousandth
CONTRAST_HU = (
    40.0  # noise and haemorrhage stay below: the bright tail counts by how much longer it is than the dark one
)


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes
    ----------
    brain_cm3
        Enclosed by bone; about.
    vessels_hu
        How far the brightest of the brain lies above its middle, less how far the darkest lies below: contrast without noise.
        None where no brain is seen.
    """

    brain_cm3: float
    vessels_hu: float | None

    @property
    def head(self) -> bool:
        return self.vessels_hu is not None

    @property
    def contrast(self) -> bool:
        return self.vessels_hu is not None and self.vessels_hu >= CONTRAST_HU


NOTHING = Look(0.0, None)


def look(series: Series) -> Look:
    """A coarse look at a CT in any orientation.

    Raises
    ------
    InputError
        Its pixels cannot be read.
    """
    hu, spacing_mm = _transverse(series)
    if min(hu.shape[1:]) < 3 or min(np.array(hu.shape) * spacing_mm) < _SMALLEST_MM:
        return NOTHING
    if np.percentile(hu[:, ::4, ::4], 1) > _AIR_OF_HU:
        hu -= _OFFSET
    inside = np.stack([_inside(one > _BONE_HU, spacing_mm[1:]) for one in hu])
    area = inside.sum(axis=(1, 2))
    brain_cm3 = float(area.sum() * spacing_mm.prod() / 1000)
    if brain_cm3 < MIN_BRAIN_CM3:
        return Look(brain_cm3, None)
    high = area >= _HIGH * area.max()
    low, middle, top = np.percentile(hu[high][inside[high]], (_TAIL_PERCENT, 50, 100 - _TAIL_PERCENT))
    return Look(brain_cm3, float((top - middle) - (middle - low)))


def _transverse(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """A sample of HU, slices across the patient first, float32, and how far apart (3,) its values are, mm."""
    factor = max(1, round(_PIXEL_MM / min(series.spacing_mm)))
    along = np.abs([series.normal[2], series.orientation[1][2], series.orientation[0][2]])
    axis = int(np.argmax(along))  # of the array that runs along the patient
    length_mm = series.step_mm * (len(series.planes) - 1)
    most = _SLICES if axis == 0 else max(2, round(length_mm / _BETWEEN_MM))
    hu = sampled(series, most, factor)
    spacing_mm = np.array([length_mm / max(1, len(hu) - 1), *(factor * s for s in series.spacing_mm)])
    hu, spacing_mm = np.moveaxis(hu, axis, 0), np.array([spacing_mm[axis], *np.delete(spacing_mm, axis)])
    every = max(1, len(hu) // _SLICES)
    return np.ascontiguousarray(hu[::every]), spacing_mm * (every, 1, 1)


def _inside(bone: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """What a ring of bone encloses in one slice, away from it; vessels as bright as bone are inside too."""
    if not bone.any():
        return bone
    ring = ndimage.distance_transform_edt(~bone, sampling=spacing_mm) <= _GAP_MM
    held = np.pad(ndimage.binary_fill_holes(ring) & ~ring, 1)
    # What is too narrow to hold a brain is orbit, sinus, jaw.
    wide = ndimage.distance_transform_edt(held, sampling=spacing_mm) > _WIDE_MM
    if not wide.any():
        return wide[1:-1, 1:-1]
    brain = held & (ndimage.distance_transform_edt(~wide, sampling=spacing_mm) <= _WIDE_MM + _GAP_MM)
    brain = ndimage.binary_fill_holes(brain)
    return np.asarray((ndimage.distance_transform_edt(brain, sampling=spacing_mm) > _INWARD_MM)[1:-1, 1:-1])
