"""Vessels of a DSA run: minimum intensity projection, ridge filter, and arteries and veins by arrival time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from scipy import ndimage

from DeepIterRegLib.common.devices import by_card
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Segmentation
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.segmentation import dsa_cpu
from DeepIterRegLib.segmentation.bolus import along_vessels, late_vessels, lower_median
from DeepIterRegLib.segmentation.dsa_cpu import shrunk
from DeepIterRegLib.segmentation.ridges import enlarged

_MIN_VALID = 0.01  # of the image: shutters that leave less are read wrongly
_SAMPLE_PX = 8  # frames are one kind of number: every so many pixels tell whether they are finite
_WHOLE = 0.999  # of a working pixel inside the valid image: half a shutter's edge would look like a vessel
_EDGE_PX = 3  # working pixels along edges that no filter reaches wholly
_MIN_MM2 = 60  # of vessels on the detector: less is a catheter or noise, a carotid alone has hundreds
_MAX_FRAMES = 32  # that are told apart: a bolus is slow
_FAINTEST = 0.006  # of the strongest hundredth
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


@dataclass(frozen=True)
class _Seen:
    """What the frames show: `minip` on the run's own pixels, the other images (row, column) `factor` times smaller.

    Attributes
    ----------
    minip
    factor, working_mm
        Pixels of the run in one of theirs, along a side, and its size on the detector.
    inside : bool
        Where vessels are looked for.
    strength
        Contrast of the best bolus.
    snr
        Strength of its ridges over the noise.
    arrival_s
    frames
        So many were told apart.
    """

    minip: np.ndarray
    factor: int
    working_mm: float
    inside: np.ndarray
    strength: np.ndarray
    snr: np.ndarray
    arrival_s: np.ndarray
    frames: int


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
    tell = on_progress or (lambda done: None)

    def on_card(device: str) -> _Seen:
        from DeepIterRegLib.segmentation import dsa_tensors

        return _looked_at(dsa_tensors, dsa_tensors.held(frames, device), times_s, angiogram, settings, tell)

    seen = by_card(on_card, lambda: _looked_at(dsa_cpu, frames, times_s, angiogram, settings, tell))
    return _masks(seen, angiogram, settings, tell)


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


def _looked_at(
    by: ModuleType,
    frames: Any,
    times_s: np.ndarray,
    angiogram: Angiogram,
    settings: DsaSegmentation,
    tell: Callable[[float], None],
) -> _Seen:
    """What frames (t, row, column) show, held where the steps of `by` work."""
    minip = by.minip_of(frames, angiogram.valid)
    pixel_mm = float(np.mean(angiogram.carm.pixel_spacing_mm))
    factor = max(1, round(settings.working_pixel_mm / pixel_mm), math.ceil(max(minip.shape) / settings.working_px))
    working_mm = pixel_mm * factor
    valid = shrunk(angiogram.valid[None], factor)[0] > _WHOLE
    tell(0.15)
    groups = _groups(len(frames), _MAX_FRAMES)
    images = by.at_most(by.shrunk(frames, factor), groups)
    times_s = np.array([times_s[group].mean() for group in groups])
    tell(0.3)
    contrast = by.contrast_of(images, valid, settings.background_mm / working_mm)
    tell(0.45)
    valid = _inside_collimator(by.largest(contrast), valid)
    inside = ndimage.binary_erosion(valid, iterations=_EDGE_PX, border_value=0)
    if not inside.any() or by.is_even(contrast, images, inside):
        raise InputError(
            Message(
                "The DSA frames are constant: no vessel can be seen",
                advice="Another run is needed.",
                give=("dsa_mask",),
            )
        )
    noise = by.noise_of(contrast, inside)
    tell(0.55)
    strength, trust, arrival_s = by.follow_bolus(contrast, images, inside, noise, times_s)
    tell(0.8)
    snr = by.ridge_strength(strength, settings.sigmas_px) * trust / noise * inside
    return _Seen(minip, factor, working_mm, inside, by.host(strength), snr, arrival_s, len(times_s))


def _masks(seen: _Seen, angiogram: Angiogram, settings: DsaSegmentation, tell: Callable[[float], None]) -> DsaMasks:
    snr, strength, working_mm, factor = seen.snr, seen.strength, seen.working_mm, seen.factor
    inside, minip = seen.inside, seen.minip
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
    if seen.frames > 1:
        arrival = along_vessels(seen.arrival_s, strength, vessels)
        late = late_vessels(arrival, vessels, settings.min_vein_delay_s)
        arteries, veins = vessels & ~late, vessels & late
    else:
        arrival = np.full(vessels.shape, np.nan, dtype=np.float32)
        arteries = veins = vessels
    tell(0.95)
    shape = minip.shape
    full = _grow_mask(vessels, factor, shape) & angiogram.valid
    nearest = ndimage.distance_transform_edt(~vessels, return_distances=False, return_indices=True)
    return DsaMasks(
        minip=minip,
        vesselness=_grow(vesselness, factor, shape) * full,
        vessels=full,
        arteries=full & _repeated(arteries[tuple(nearest)], factor, shape),
        veins=full & _repeated(veins[tuple(nearest)], factor, shape),
        arrival_time_s=np.where(full, _repeated(arrival[tuple(nearest)], factor, shape), np.nan).astype(np.float32),
    )


def _groups(count: int, most: int) -> list[slice]:
    """Successive frames of so many that are taken together, so that there are at most `most` groups."""
    group = -(-count // most)
    return [slice(n, n + group) for n in range(0, count, group)]


def _inside_collimator(size: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`valid` without what lies at or beyond an edge of the collimator: a straight line of residue along most of a row or column.

    `size` (row, column) is the largest contrast of either sign.
    """
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


def _repeated(image: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Each full-size pixel takes the value of its working pixel."""
    return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
