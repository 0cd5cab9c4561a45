"""Where a file puts its volume: axes that are not perpendicular, voxels of no head's size, coordinates far away."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import AIR_HU, Volume

_PERPENDICULAR_DEG = 0.01  # less is the last digit of a header
ROUNDING_DEG = 0.5  # up to here axes were rounded somewhere; a gantry is tilted by more
_VOXEL_MM = (0.02, 25.0)  # of any CT or 3D angiogram
_FEW = 3  # voxels along an axis: a single slice may be as thick as it likes
_FAR_MM = 10_000.0
_NOWHERE_MM = 1e7  # not even coordinates of a hospital's ground plan


def placed(volume: Volume, name: str, resample: bool = True) -> Volume:
    """The volume on perpendicular axes, with notes of what was found and done.

    Parameters
    ----------
    volume
    name
        Of its file, for messages.
    resample
        Whether a tilted gantry is undone too, by new voxels. Masks are better laid on their CTA as they are.
    """
    if not _perpendicular(volume):
        volume = _mended(volume, name, resample)
    far = float(np.abs(volume.centre_mm).max())
    if far > _FAR_MM:
        note = (
            f"{name} puts the head {far / 1000:.0f} m from the origin of its coordinates. It is registered as it stands; "
            "landmarks and masks must use the same coordinates."
        )
        return Volume(volume.voxels, volume.affine, (*volume.notes, note))
    return volume


def _perpendicular(volume: Volume) -> bool:
    """Whether the axes are, but for the last digits of a header."""
    directions = volume.affine[:3, :3] / volume.spacing_mm
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() < np.sin(np.radians(_PERPENDICULAR_DEG)))


def _mended(volume: Volume, name: str, resample: bool) -> Volume:
    """A volume of sheared axes: those of rounding put right, those of a gantry resampled; a note says which."""
    from DeepIterRegLib.images.shear import shear_deg, upright  # compiled code, which upright files need not wait for

    lean = shear_deg(volume.affine)
    if lean <= ROUNDING_DEG:
        note = f"The axes of {name} were {lean:.2f} deg from perpendicular, as rounding makes them; this was undone."
        return Volume(volume.voxels, _nearest_perpendicular(volume), (*volume.notes, note))
    if not resample:
        return volume
    labels = _looks_like_labels(volume.voxels)
    outside = 0.0 if labels else max(float(AIR_HU), float(volume.voxels.min()))
    note = f"The axes of {name} are {lean:.1f} deg from perpendicular, as with a tilted gantry: it was resampled to upright axes."
    straight = upright(volume, outside, nearest=labels)
    return Volume(straight.voxels, straight.affine, (*volume.notes, note))


def check_spacing(affine: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    """Refuse the affine (4, 4) of a grid (k, j, i) whose voxels have a size that no head's have.

    Raises
    ------
    InputError
    """
    if float(np.abs(affine).max()) > _NOWHERE_MM:
        raise InputError(
            f"{name} is damaged: its header puts voxels {np.abs(affine).max() / 1e6:.3g} km away; copy it again."
        )
    if wrong := implausible_spacing(affine, shape):
        spacing = " x ".join(f"{s:.3g}" for s in np.linalg.norm(affine[:3, :3], axis=0))
        raise InputError(
            f"{name} has voxels of {spacing} mm, as if it were stored in {wrong}; save it again with its spacing in mm."
        )
    along = np.linalg.norm(affine[:3, :3], axis=0)
    odd = along[[n > _FEW for n in shape[::-1]]]
    if ((odd < _VOXEL_MM[0]) | (odd > _VOXEL_MM[1])).any():
        raise InputError(
            f"{name} has voxels of {' x '.join(f'{s:.3g}' for s in along)} mm, as no scan of a head has: its header is damaged; copy it "
            "again, or save it again with its spacing in mm."
        )


def implausible_spacing(affine: np.ndarray, shape: tuple[int, ...]) -> str:
    """The unit that an affine (4, 4) of a grid (k, j, i) seems to be in if it cannot be mm; else empty."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[[n > _FEW for n in shape[::-1]]]
    if not spacing.size:
        return ""
    if spacing.max() < _VOXEL_MM[0]:
        return "metres"
    return "micrometres" if spacing.min() > _VOXEL_MM[1] else ""


def _nearest_perpendicular(volume: Volume) -> np.ndarray:
    """The affine (4, 4) with the nearest perpendicular axes, about the grid's centre, with its spacing."""
    spacing = volume.spacing_mm
    left, _, right = np.linalg.svd(volume.affine[:3, :3] / spacing)
    affine = np.eye(4)
    affine[:3, :3] = left @ right * spacing
    middle = (np.array(volume.voxels.shape[::-1]) - 1) / 2
    affine[:3, 3] = volume.centre_mm - affine[:3, :3] @ middle
    return affine


def _looks_like_labels(voxels: np.ndarray) -> bool:
    return bool(voxels.dtype.kind in "biu" and voxels.min() == 0 and voxels.max() <= 255)
