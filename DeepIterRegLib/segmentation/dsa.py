"""Vessels of a DSA run: minimum intensity projection, ridge filter, and arteries and veins by arrival time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Segmentation
from DeepIterRegLib.images.angiogram import Angiogram


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


def segment_dsa(angiogram: Angiogram, settings: DsaSegmentation = DsaSegmentation()) -> DsaMasks:
    """MinIP, vessels, arteries and veins of a run (Resources/Docs/method.md, section 3).

    A vessel is a dark ridge of the MinIP that comes and goes. Residue of moved bone is dark beside white, or stays: it is held down.

    Raises
    ------
    InputError
        Frames out of range, constant or not finite, or no vessel found.
    """
    frames, times_s = _frame_range(angiogram, settings)
    with torch.inference_mode():
        return _segment(frames, times_s, angiogram, settings)


def as_dsa_mask(mask: np.ndarray, angiogram: Angiogram) -> np.ndarray:
    """A mask supplied by a person, checked against its run, as bool (row, column).

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
    if angiogram.valid.sum() < 0.01 * angiogram.valid.size:
        raise InputError(
            "Shutters and collimator leave less than 1 % of the image; check the shutter tags, or crop the image."
        )
    frames = angiogram.frames[settings.first_frame : last + 1]
    times = np.asarray(angiogram.frame_times_s, dtype=np.float64)[settings.first_frame : last + 1]
    if not np.isfinite(frames[:, ::8, ::8]).all():
        raise InputError("The DSA frames have pixels that are not finite numbers; export the run again.")
    return frames, times - times[0]


def _segment(frames: np.ndarray, times_s: np.ndarray, angiogram: Angiogram, settings: DsaSegmentation) -> DsaMasks:
    minip = _minip(frames, angiogram.valid)
    pixel_mm = float(np.mean(angiogram.carm.pixel_spacing_mm))
    factor = max(1, round(settings.working_pixel_mm / pixel_mm), math.ceil(max(minip.shape) / settings.working_px))
    working_mm = pixel_mm * factor
    valid = _shrink(torch.from_numpy(angiogram.valid.astype(np.float32))[None], factor)[0] > 0.999
    images = _shrink(torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)), factor)
    images, times_s = _at_most(images, times_s, _MAX_FRAMES)
    contrast = _contrast(images, valid, settings.background_mm / working_mm)
    valid = _inside_collimator(contrast, valid)
    inside = torch.from_numpy(ndimage.binary_erosion(valid.numpy(), iterations=3, border_value=0))
    if not bool(inside.any()) or float(contrast[:, inside].std()) <= 1e-7 * max(1.0, float(images.abs().max())):
        raise InputError(
            Message(
                "The DSA frames are constant: no vessel can be seen",
                advice="Another run is needed.",
                give=("dsa_mask",),
            )
        )
    noise = _noise(contrast, inside)
    strength, trust, arrival_s = _bolus(contrast, images, inside, noise, times_s)
    snr = _ridges(strength[None], settings.sigmas_px)[0] * trust / noise * inside
    vessels = _hysteresis(snr.numpy(), inside.numpy(), settings, settings.min_area_mm2 / working_mm**2)
    if vessels.sum() * working_mm**2 < 60:
        raise InputError(
            Message(
                f"No vessels were found in the DSA: only {vessels.sum() * working_mm**2:.0f} mm2 of it look like contrast",
                advice="Check that the run shows contrast.",
                give=("first_frame", "last_frame", "mask_frames", "dsa_mask"),
            )
        )
    vesselness = _visibility(snr.numpy(), vessels)
    if len(times_s) > 1:
        arrival = _along_vessels(arrival_s.numpy(), strength.numpy(), vessels)
        late = _late(arrival, vessels, settings.min_vein_delay_s)
        arteries, veins = vessels & ~late, vessels & late
    else:
        arrival = np.full(vessels.shape, np.nan, dtype=np.float32)
        arteries = veins = vessels
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
    if t < 5:
        lowest = frames.min(axis=0)
    else:
        lowest = frames[0].copy()
        for n in range(t - 2):
            a, b, c = frames[n], frames[n + 1], frames[n + 2]
            np.minimum(lowest, np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)), out=lowest)
        np.minimum(lowest, frames[-1], out=lowest) if t < 8 else None
    lowest = lowest.astype(np.float32)
    lowest -= np.median(lowest[valid])
    lowest[~valid] = 0
    return lowest


def _shrink(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Means of blocks; the last rows and columns are repeated to fill a block."""
    if factor == 1:
        return images
    rows, columns = images.shape[-2:]
    padding = (0, -columns % factor, 0, -rows % factor)
    return F.avg_pool2d(F.pad(images[:, None], padding, mode="replicate"), factor)[:, 0]


def _at_most(images: torch.Tensor, times_s: np.ndarray, most: int) -> tuple[torch.Tensor, np.ndarray]:
    """Means of successive frames, so that there are at most `most`; vessels fill slowly."""
    group = -(-len(images) // most)
    if group == 1:
        return images, times_s
    starts = range(0, len(images), group)
    return torch.stack([images[n : n + group].mean(dim=0) for n in starts]), np.array(
        [times_s[n : n + group].mean() for n in starts]
    )


def _contrast(frames: torch.Tensor, valid: torch.Tensor, background_px: float) -> torch.Tensor:
    """Contrast positive, with everything wider than vessels taken away frame by frame."""
    step = max(1, round(background_px / 4))
    weight = valid.to(frames.dtype)[None, None]
    images = -frames[:, None] * weight
    small = torch.cat([F.avg_pool2d(images, step, ceil_mode=True), F.avg_pool2d(weight, step, ceil_mode=True)])[:, 0]
    small = _separable(small, _gaussian(1.5), _gaussian(1.5))
    background = small[:-1] / small[-1:].clamp(min=1e-3)
    rows, columns = frames.shape[-2:]
    grown = F.interpolate(background[:, None], scale_factor=step, mode="bilinear", align_corners=False)[
        :, 0, :rows, :columns
    ]
    return (images[:, 0] - grown) * weight[0]


def _inside_collimator(contrast: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """`valid` without what lies at or beyond an edge of the collimator: a straight line of residue along most of a row or column."""
    size = contrast.abs().amax(dim=0)
    typical = float(size[valid].median()) if bool(valid.any()) else 0.0
    kept = valid.clone()
    for axis in (0, 1):
        lines = size.masked_fill(~valid, torch.nan).nanmedian(dim=1 - axis).values.nan_to_num()
        count = len(lines)
        band, beside = count // 5, max(6, count // 50)
        for side in (0, 1):
            level = lines if side == 0 else lines.flip(0)
            edge = (level[:band] > 3 * level[beside : band + beside]) & (level[:band] > 2 * typical)
            if bool(edge.any()):
                cut = int(torch.nonzero(edge).max()) + 4
                span = slice(0, cut) if side == 0 else slice(count - cut, count)
                kept[(span, slice(None)) if axis == 0 else (slice(None), span)] = False
    return kept


def _noise(contrast: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Standard deviation (row, column) of one pixel of one frame, from differences in time (in space for a single frame), locally."""
    # a hundredth of a strong vessel is the least that counts; saturated air has no noise at all
    least = max(0.01 * float(torch.quantile(contrast.amax(dim=0)[inside][::3], 0.995)), 1e-12)
    if len(contrast) < 3:
        sideways = (contrast[:, :, 1:] - contrast[:, :, :-1]).abs()[:, inside[:, 1:] & inside[:, :-1]]
        return torch.full(inside.shape, max(least, float(sideways.median()) / (0.6745 * math.sqrt(2))))
    step = max(1, len(contrast) // 12)
    differences = (contrast[1::step] - contrast[:-1:step]).abs().median(dim=0).values
    block = 16
    rows, columns = differences.shape
    cells = F.pad(differences[None, None], (0, -columns % block, 0, -rows % block), mode="replicate")
    cells = (
        F.unfold(cells, block, stride=block).median(dim=1).values.reshape(1, 1, -(-rows // block), -(-columns // block))
    )
    cells = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    local = F.interpolate(cells, scale_factor=block, mode="bilinear", align_corners=False)[0, 0, :rows, :columns] / (
        0.6745 * math.sqrt(2)
    )
    return local.clamp(min=least)


_MAX_FRAMES = 32
_FAINTEST = 0.006  # of the strongest hundredth
_TRUST_WITHOUT_COURSE = 1 / 15  # too few frames for a bolus: the ridge alone must rise above the noise
_RISES_S = (1.2, 2.0, 3.2)


def _bolus(
    contrast: torch.Tensor, images: torch.Tensor, inside: torch.Tensor, noise: torch.Tensor, times_s: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How strongly each pixel follows a bolus, whatever moved bone does.

    Contrast only darkens, so courses of pixels that turn white are residue of motion. Residue is first order in the few motions of the
    head: all of it shares their courses. The matched filter is therefore whitened by the covariance of the white pixels.

    Returns
    -------
    strength : (row, column)
        Output of the best of the filters, in units of contrast.
    trust : (row, column)
        0..1: share of the (whitened) course that the bolus explains, locally, to the fourth power.
    arrival_s : (row, column)
        Half rise of that bolus.
    """
    shape = contrast.shape[1:]
    if len(contrast) < 6:
        strength, frame = contrast.clamp(min=0).max(dim=0)
        return strength, torch.full(shape, _TRUST_WITHOUT_COURSE), torch.from_numpy(times_s.astype(np.float32))[frame]
    curves, half_rise_s = _bolus_curves(times_s)
    whitening = _whitening(images, inside, noise)
    matched = curves @ whitening.T
    matched = matched / matched.norm(dim=1, keepdim=True)
    courses = whitening @ contrast.reshape(len(contrast), -1)
    strength, best = (matched @ courses).max(dim=0)
    strength = strength.clamp(min=0)
    energy = F.avg_pool2d(
        torch.stack([strength**2, (courses**2).sum(dim=0)]).reshape(2, 1, *shape), 5, stride=1, padding=2
    )[:, 0]
    trust = (energy[0] / energy[1].clamp(min=1e-20)) ** 2
    return strength.reshape(shape), trust, half_rise_s[best].reshape(shape)


def _bolus_curves(times_s: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Gamma variates (n, t) that reach at least half of their peak during the run, and their half rise (n,) in seconds."""
    curves, half_rise_s = [], []
    for rise in _RISES_S:
        for arrival in np.arange(-2.0, times_s[-1], 0.5):
            x = np.maximum((times_s - arrival) / rise, 0)
            curve = x**2.5 * np.exp(2.5 * (1 - x))
            if curve.max() >= 0.5:
                curves.append(curve)
                half_rise_s.append(arrival + 0.42 * rise)
    return torch.from_numpy(np.array(curves, dtype=np.float32)), torch.from_numpy(
        np.array(half_rise_s, dtype=np.float32)
    )


def _whitening(images: torch.Tensor, inside: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Square root (t, t) of the inverse of noise + residue covariance, in units of noise."""
    pixels = images[:, inside]
    pixels = pixels - pixels.median(dim=1, keepdim=True).values
    highest, lowest = pixels.amax(dim=0), pixels.amin(dim=0)
    sigma = noise[inside]
    white = (highest > 5 * sigma) & (highest > -1.5 * lowest)
    identity = torch.eye(len(images))
    if int(white.sum()) < 300:
        return identity
    courses = pixels[:, white]
    energy = (courses**2).sum(dim=0)
    scaled = courses / energy.sqrt()
    residue = scaled @ scaled.T / scaled.shape[1]
    ratio = float(energy.median() / (sigma[white] ** 2).mean())
    values, vectors = torch.linalg.eigh(identity + ratio * residue)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


def _ridges(images: torch.Tensor, sigmas_px: tuple[float, ...]) -> torch.Tensor:
    """Ridge strength (n, row, column) >= 0: the largest over the scales of minus the lowest Hessian eigenvalue times sigma squared.

    Half of the other eigenvalue is taken away, so that blobs count less than lines.
    """
    best = torch.zeros_like(images)
    for sigma in sigmas_px:
        g, d1, d2 = _gaussian(sigma), _gaussian(sigma, 1), _gaussian(sigma, 2)
        rr, cc, rc = _separable(images, d2, g), _separable(images, g, d2), _separable(images, d1, d1)
        mean, spread = (rr + cc) / 2, torch.sqrt(((rr - cc) / 2) ** 2 + rc**2)
        across, along = spread - mean, -(mean + spread)
        best = torch.maximum(best, sigma**2 * (across - along.abs() / 2))
    return best


def _gaussian(sigma: float, order: int = 0) -> torch.Tensor:
    radius = math.ceil(3.5 * sigma)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    g = torch.exp(-0.5 * (x / sigma) ** 2)
    g = g / g.sum()
    if order == 1:
        return x / sigma**2 * g
    if order == 2:
        g2 = (x**2 / sigma**4 - 1 / sigma**2) * g
        return g2 - g2.mean()
    return g


def _separable(images: torch.Tensor, down: torch.Tensor, along: torch.Tensor) -> torch.Tensor:
    """Correlation (n, row, column) with one kernel down the columns and one along the rows; edges repeated."""
    a, b = len(down) // 2, len(along) // 2
    x = F.pad(images[:, None], (b, b, a, a), mode="replicate")
    return F.conv2d(F.conv2d(x, down[None, None, :, None]), along[None, None, None, :])[:, 0]


def _hysteresis(snr: np.ndarray, inside: np.ndarray, settings: DsaSegmentation, min_pixels: float) -> np.ndarray:
    # without noise the faintest ringing of the filter would pass
    scale = max(1.0, _FAINTEST * float(np.quantile(snr[inside][::3], 0.99)) / settings.low_snr)
    weak = (snr > scale * settings.low_snr) & inside
    labels, count = ndimage.label(weak, np.ones((3, 3)))
    size = np.bincount(labels.ravel(), minlength=count + 1)
    strong = np.bincount(labels.ravel(), weights=(snr > scale * settings.high_snr).ravel(), minlength=count + 1)
    keep = (size >= max(min_pixels, 1)) & (strong >= 3)
    keep[0] = False
    return keep[labels]


def _visibility(snr: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """0..1: square root of the ridge's strength, 1 for the strongest hundredth."""
    top = float(np.percentile(snr[vessels], 99))
    return (np.sqrt(np.clip(snr / top, 0, 1)) * ndimage.binary_dilation(vessels)).astype(np.float32)


# -- time ----------------------------------------------------------------------------------------------


def _along_vessels(arrival_s: np.ndarray, strength: np.ndarray, vessels: np.ndarray) -> np.ndarray:
    """Arrival evened out along vessels, strong pixels counting more; not-a-number off them."""
    weight = strength**2 * vessels
    mean = ndimage.uniform_filter(arrival_s * weight, 7) / np.maximum(ndimage.uniform_filter(weight, 7), 1e-20)
    return np.where(vessels, mean, np.nan).astype(np.float32)


def _late(arrival: np.ndarray, vessels: np.ndarray, min_delay_s: float) -> np.ndarray:
    """Vessels of the later of two classes (Otsu), each at least a twentieth; none where the classes are not apart."""
    values = arrival[vessels]
    edges = np.linspace(values.min(), values.max() + 1e-6, 65)
    counts, _ = np.histogram(values, edges)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centres)[:-1] / np.maximum(below, 1)
    mean_above = ((counts * centres).sum() - np.cumsum(counts * centres)[:-1]) / np.maximum(above, 1)
    share = below / counts.sum()
    between = below * above * (mean_above - mean_below) ** 2 * ((share >= 0.05) & (share <= 0.95))
    best = int(np.argmax(between))
    if mean_above[best] - mean_below[best] < min_delay_s:
        return np.zeros_like(vessels)
    return vessels & (np.nan_to_num(arrival) > edges[best + 1])


# -- back to full size ---------------------------------------------------------------------------------


def _grow(image: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    if factor == 1:
        return image.astype(np.float32)
    grown = F.interpolate(
        torch.from_numpy(image.astype(np.float32))[None, None],
        scale_factor=factor,
        mode="bilinear",
        align_corners=False,
    )
    return grown[0, 0, : shape[0], : shape[1]].numpy()


def _grow_mask(mask: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    return _grow(mask, factor, shape) > 0.49


def _nearest(image: np.ndarray, known: np.ndarray, factor: int, shape: tuple[int, ...]) -> np.ndarray:
    """Each full-size pixel takes the value of the nearest known working pixel."""
    indices = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = image[tuple(indices)]
    return np.repeat(np.repeat(filled, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]
