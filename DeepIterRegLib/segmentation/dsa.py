"""Vessels of a DSA run: minimum intensity projection, ridge filter, and arteries and veins by arrival time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Segmentation
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.blocks import binned
from DeepIterRegLib.segmentation.bolus import along_vessels, follow_bolus, late_vessels, lower_median, noise_of
from DeepIterRegLib.segmentation.ridges import enlarged, gaussian_kernel, ridge_strength, separable

_MIN_VALID = 0.01  # of the image: shutters that leave less are read wrongly
_SAMPLE_PX = 8  # frames are one kind of number: every so many pixels tell whether they are finite
_WHOLE = 0.999  # of a working pixel inside the valid image: half a shutter's edge would look like a vessel
_EDGE_PX = 3  # working pixels along edges that no filter reaches wholly
_EVEN = 1e-7  # of the largest value: rounding of an even image
_MIN_MM2 = 60  # of vessels on the detector: less is a catheter or noise, a carotid alone has hundreds
_MAX_FRAMES = 32  # that are told apart: a bolus is slow
_FAINTEST = 0.006  # of the strongest hundredth
_FLICKER_FRAMES = 5  # from so many on flicker of single frames is removed
_LONG_FRAMES = 8  # in shorter runs the last frame alone may show the veins
_BACKGROUND_CELLS, _BACKGROUND_SIGMA = 4, 1.5  # cells of background along its width, and their blur
# Edge of a collimator: lines whose median is so many times that of what lies further inside, and of the image; how far it is looked for.
_EDGE_OVER_INSIDE, _EDGE_OVER_TYPICAL, _EDGE_BAND, _EDGE_BEYOND_PX = 3, 2, 5, 4
_STRONG_PX = 3  # that a piece needs: two may be noise
_TOP = 99  # per cent: the strongest hundredth has visibility 1
_HALF = 0.49  # of a full-size pixel: as half, but for rounding


@dataclass(frozen=True)
class DsaSegmentation:
    """Settings of `segment_dsa`.

    Attributes
    ----------
    first_frame, last_frame
        Range of the run that is used, both included; None is the last.
    working_pixel_mm
        Wanted pixel of the working image, on the detector; never more than `working_px` along a side.
    working_px
        Largest side of the working image.
    sigmas_px
        Scales of the ridge filter in working pixels.
    low_snr, high_snr
        Hysteresis on the ridge filter, in units of the noise of one pixel of one frame; a bolus is seen in many
        frames and a ridge in many pixels, so values below 1 are safe.
    min_area_mm2
        Smaller pieces are dropped (on the detector).
    background_mm
        Structures wider than about this are background (parenchymal blush, drift).
    min_vein_delay_s
        The veins are told from the arteries only if they come at least this much later on average.
    """

    first_frame: int = 0
    last_frame: int | None = None
    working_pixel_mm: float = 0.4
    working_px: int = 640
    sigmas_px: tuple[float, ...] = (1.0, 1.7, 3.0, 5.0)
    low_snr: float = 0.06
    high_snr: float = 0.25
    min_area_mm2: float = 12.0
    background_mm: float = 20.0
    min_vein_delay_s: float = 1.5

    @classmethod
    def of(cls, chosen: Segmentation) -> DsaSegmentation:
        """What a person's choices stand for, whose frames count from 1; 0 is the last."""
        return cls(first_frame=chosen.first_frame - 1, last_frame=chosen.last_frame - 1 if chosen.last_frame else None)

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.first_frame < 0 or (self.last_frame is not None and self.last_frame < self.first_frame):
            last = "the last" if self.last_frame is None else self.last_frame + 1
            problems.append(Message(f"Frames {self.first_frame + 1} to {last} are no range", at="first_frame"))
        if not 0.05 <= self.working_pixel_mm <= 3:
            problems.append(f"working_pixel_mm is {self.working_pixel_mm:g}; 0.05 to 3 make sense.")
        if self.working_px < 64:
            problems.append(f"working_px is {self.working_px}; at least 64 are needed.")
        if not self.sigmas_px or not all(0.5 <= s <= 20 for s in self.sigmas_px):
            problems.append(f"sigmas_px is {self.sigmas_px}; one or more of 0.5 to 20 px are needed.")
        if not 0 < self.low_snr <= self.high_snr:
            problems.append(f"low_snr ({self.low_snr:g}) must be above 0 and not above high_snr ({self.high_snr:g}).")
        if not (self.min_area_mm2 >= 0 and self.background_mm > 0 and self.min_vein_delay_s >= 0):
            problems.append("min_area_mm2 and min_vein_delay_s must not be negative, background_mm must be above 0.")
        if problems:
            raise InputError(problems)


@dataclass(frozen=True)
class DsaMasks:
    """What a DSA run shows, on its own pixel grid, every array (row, column).

    Attributes
    ----------
    minip : float32
        Minimum over time of the run, single-frame flicker removed, its background at 0; vessels negative.
    vesselness : float32
        0..1, how visible a vessel is; 0 off the vessels.
    vessels, arteries, veins : bool
        Arteries and veins share out the vessels by arrival time. A run in which nothing arrives late has
        no veins. One frame tells no arrival: then arteries and veins both are all vessels.
    arrival_time_s : float32
        Seconds from the first frame used to half of the peak; not-a-number off the vessels and for one frame.
    """

    minip: np.ndarray
    vesselness: np.ndarray
    vessels: np.ndarray
    arteries: np.ndarray
    veins: np.ndarray
    arrival_time_s: np.ndarray


def segment_dsa(
    angiogram: Angiogram,
    settings: DsaSegmentation = DsaSegmentation(),
    on_progress: Callable[[float], None] | None = None,
) -> DsaMasks:
    """MinIP, vessels, arteries and veins of a run (Resources/Docs/method.md, section 3).

    A vessel is a dark ridge of the MinIP that comes and goes. Residue of moved bone is dark beside white, or stays: it is held down.
    `on_progress` is told the fraction done.

    Raises
    ------
    InputError
        Frames out of range, constant or not finite, or no vessel found.
    """
    frames, times_s = _frame_range(angiogram, settings)
    return _segment(frames, times_s, angiogram, settings, on_progress or (lambda done: None))


def as_dsa_mask(mask: np.ndarray, angiogram: Angiogram) -> np.ndarray:
    """A mask (row, column) supplied by a person, checked against its run, as bool (row, column); an axis of length 1 is left out.

    Raises
    ------
    InputError
        Another size than the frames', or empty.
    """
    wanted = angiogram.frames.shape[1:]
    found = np.asarray(mask)
    if found.ndim == 3 and 1 in found.shape:
        found = found.squeeze(found.shape.index(1))
    if found.shape != wanted:
        raise InputError(
            f"The DSA mask has {' x '.join(map(str, found.shape))} pixels (rows x columns) but the frames have "
            f"{wanted[0]} x {wanted[1]}. Draw it on a frame of this run, or export it without resampling or cropping."
        )
    found = np.nan_to_num(found) != 0 if found.dtype.kind == "f" else found != 0
    if not found.any():
        raise InputError(
            "The DSA mask is empty: no pixel differs from 0. Give a mask with vessels, or none to have the run segmented."
        )
    return found


# -- the steps -----------------------------------------------------------------------------------------


def _frame_range(angiogram: Angiogram, settings: DsaSegmentation) -> tuple[np.ndarray, np.ndarray]:
    count = angiogram.frames.shape[0]
    last = count - 1 if settings.last_frame is None else settings.last_frame
    if settings.first_frame >= count or last >= count:
        asked = "its end" if settings.last_frame is None else last + 1
        raise InputError(
            Message(
                f"The run has {count} frames, but those from {settings.first_frame + 1} to {asked} are asked for",
                give=("first_frame", "last_frame"),
            )
        )
    if angiogram.valid.sum() < _MIN_VALID * angiogram.valid.size:
        raise InputError(
            "Shutters and collimator leave less than 1 % of the image; check the shutter tags, or crop the image."
        )
    frames = angiogram.frames[settings.first_frame : last + 1]
    times = np.asarray(angiogram.frame_times_s, dtype=np.float64)[settings.first_frame : last + 1]
    if not np.isfinite(frames[:, ::_SAMPLE_PX, ::_SAMPLE_PX]).all():
        raise InputError("The DSA frames have pixels that are not finite numbers; export the run again.")
    return frames, times - times[0]


def _segment(
    frames: np.ndarray,
    times_s: np.ndarray,
    angiogram: Angiogram,
    settings: DsaSegmentation,
    tell: Callable[[float], None],
) -> DsaMasks:
    minip = _minip(frames, angiogram.valid)
    pixel_mm = float(np.mean(angiogram.carm.pixel_spacing_mm))
    factor = max(1, round(settings.working_pixel_mm / pixel_mm), math.ceil(max(minip.shape) / settings.working_px))
    working_mm = pixel_mm * factor
    valid = _shrink(angiogram.valid[None], factor)[0] > _WHOLE
    tell(0.15)
    images = _shrink(frames, factor)
    images, times_s = _at_most(images, times_s, _MAX_FRAMES)
    tell(0.3)
    contrast = _contrast(images, valid, settings.background_mm / working_mm)
    tell(0.45)
    valid = _inside_collimator(contrast, valid)
    inside = ndimage.binary_erosion(valid, iterations=_EDGE_PX, border_value=0)
    if not inside.any() or float(contrast[:, inside].std()) <= _EVEN * max(1.0, float(np.abs(images).max())):
        raise InputError(
            Message(
                "The DSA frames are constant: no vessel can be seen",
                advice="Another run is needed.",
                give=("dsa_mask",),
            )
        )
    noise = noise_of(contrast, inside)
    tell(0.55)
    strength, trust, arrival_s = follow_bolus(contrast, images, inside, noise, times_s)
    tell(0.8)
    snr = ridge_strength(strength, settings.sigmas_px) * trust / noise * inside
    vessels = _hysteresis(snr, inside, settings, settings.min_area_mm2 / working_mm**2)
    if vessels.sum() * working_mm**2 < _MIN_MM2:
        raise InputError(
            Message(
                f"No vessels were found in the DSA: only {vessels.sum() * working_mm**2:.0f} mm2 of it look like contrast",
                advice="Check that the run shows contrast.",
                give=("first_frame", "last_frame", "mask_frames", "dsa_mask"),
            )
        )
    vesselness = _visibility(snr, vessels)
    if len(times_s) > 1:
        arrival = along_vessels(arrival_s, strength, vessels)
        late = late_vessels(arrival, vessels, settings.min_vein_delay_s)
        arteries, veins = vessels & ~late, vessels & late
    else:
        arrival = np.full(vessels.shape, np.nan, dtype=np.float32)
        arteries = veins = vessels
    tell(0.95)
    shape = minip.shape
    full = _grow_mask(vessels, factor, shape) & angiogram.valid
    return DsaMasks(
        minip=minip,
        vesselness=_grow(vesselness, factor, shape) * full,
        vessels=full,
        arteries=full & _nearest(arteries, vessels, factor, shape),
        veins=full & _nearest(veins, vessels, factor, shape),
        arrival_time_s=np.where(full, _nearest(arrival, vessels, factor, shape), np.nan).astype(np.float32),
    )


def _minip(frames: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """MinIP of the median of three successive frames, its median over the valid image taken away."""
    t = len(frames)
    if t < _FLICKER_FRAMES:
        lowest = frames.min(axis=0)
    else:
        lowest = frames[0].copy()
        for n in range(t - 2):
            a, b, c = frames[n], frames[n + 1], frames[n + 2]
            np.minimum(lowest, np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)), out=lowest)
        np.minimum(lowest, frames[-1], out=lowest) if t < _LONG_FRAMES else None
    lowest = lowest.astype(np.float32)
    lowest -= np.median(lowest[valid])
    lowest[~valid] = 0
    return lowest


def _shrink(images: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks of images (t, row, column), float32; the last rows and columns are repeated to fill a block."""
    if factor == 1:
        return np.ascontiguousarray(images, dtype=np.float32)
    t, rows, columns = images.shape
    small = np.empty((t, -(-rows // factor), -(-columns // factor)), dtype=np.float32)
    padding = ((0, -rows % factor), (0, -columns % factor))
    for image, mean in zip(images, small, strict=True):
        full = np.pad(image.astype(np.float32), padding, mode="edge") if any(padding[0] + padding[1]) else image
        mean[...] = binned(full, factor)
    return small


def _at_most(images: np.ndarray, times_s: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of successive frames, so that there are at most `most`; vessels fill slowly."""
    group = -(-len(images) // most)
    if group == 1:
        return images, times_s
    starts = range(0, len(images), group)
    return np.stack([images[n : n + group].mean(axis=0) for n in starts]), np.array(
        [times_s[n : n + group].mean() for n in starts]
    )


def _contrast(frames: np.ndarray, valid: np.ndarray, background_px: float) -> np.ndarray:
    """Contrast positive, with everything wider than vessels taken away frame by frame."""
    step = max(1, round(background_px / _BACKGROUND_CELLS))
    blur = gaussian_kernel(_BACKGROUND_SIGMA)
    weight = valid.astype(np.float32)
    padding = ((0, -valid.shape[0] % step), (0, -valid.shape[1] % step))
    filled = binned(np.pad(np.ones_like(weight), padding), step)  # less in the last row and column of cells

    def smooth(image: np.ndarray) -> np.ndarray:
        return separable(binned(np.pad(image, padding), step) / filled, blur, blur)

    seen = np.maximum(smooth(weight), np.float32(1e-3))
    contrast = np.empty_like(frames)
    for frame, left in zip(frames, contrast, strict=True):
        image = -frame * weight
        np.subtract(image, enlarged(smooth(image) / seen, step, valid.shape), out=left)
        left *= weight
    return contrast


def _inside_collimator(contrast: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`valid` without what lies at or beyond an edge of the collimator: a straight line of residue along most of a row or column."""
    size = np.maximum(contrast.max(axis=0), -contrast.min(axis=0))
    typical = float(lower_median(size[valid])) if valid.any() else 0.0
    kept = valid.copy()
    for axis in (0, 1):
        lines = _medians_of_lines(*(x if axis == 0 else x.T for x in (size, valid)))
        count = len(lines)
        band, beside = count // _EDGE_BAND, max(6, count // 50)
        for side in (0, 1):
            level = lines if side == 0 else lines[::-1]
            edge = (level[:band] > _EDGE_OVER_INSIDE * level[beside : band + beside]) & (
                level[:band] > _EDGE_OVER_TYPICAL * typical
            )
            if edge.any():
                cut = int(np.flatnonzero(edge)[-1]) + _EDGE_BEYOND_PX
                span = slice(0, cut) if side == 0 else slice(count - cut, count)
                kept[(span, slice(None)) if axis == 0 else (slice(None), span)] = False
    return kept


def _medians_of_lines(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Median (rows,) of each row's valid pixels, the lower of the two in the middle; 0 where none is valid."""
    ordered = np.sort(np.where(valid, image, np.inf), axis=1)
    middle = np.maximum(valid.sum(axis=1) - 1, 0) // 2
    medians = np.take_along_axis(ordered, middle[:, None], axis=1)[:, 0]
    return np.where(valid.any(axis=1), medians, 0)


def _hysteresis(snr: np.ndarray, inside: np.ndarray, settings: DsaSegmentation, min_pixels: float) -> np.ndarray:
    # without noise the faintest ringing of the filter would pass
    scale = max(1.0, _FAINTEST * float(np.quantile(snr[inside][::3], 0.99)) / settings.low_snr)
    weak = (snr > scale * settings.low_snr) & inside
    labels, count = ndimage.label(weak, np.ones((3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    strong = np.bincount(labels.ravel(), weights=(snr > scale * settings.high_snr).ravel(), minlength=count + 1)
    keep = (size >= max(min_pixels, 1)) & (strong >= _STRONG_PX)
    keep[0] = False
    return keep[labels]


def _visibility(snr: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """0..1: square root of the ridge's strength, 1 for the strongest hundredth."""
    top = float(np.percentile(snr[vessels], _TOP))
    return (np.sqrt(np.clip(snr / top, 0, 1)) * ndimage.binary_dilation(vessels)).astype(np.float32)


# -- back to full size ---------------------------------------------------------------------------------


def _grow(image: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    image = image.astype(np.float32)
    return image if factor == 1 else enlarged(image, factor, shape)


def _grow_mask(mask: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    return _grow(mask, factor, shape) > _HALF


def _nearest(image: np.ndarray, known: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Each full-size pixel takes the value of the nearest known working pixel."""
    indices = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = image[tuple(indices)]
    return np.repeat(np.repeat(filled, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
