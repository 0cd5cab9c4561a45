"""What the commands and the Slicer module do: one case in, one outcome out; files in, files out.

Paths and patients' names never reach the output.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from DeepIterRegLib.angiogram import Angiogram
from DeepIterRegLib.dicom import GeometryOptions, SubtractionSettings, loaded_spacing_mm, read_angiogram
from DeepIterRegLib.errors import Cancelled, InputError
from DeepIterRegLib.geometry import CArm, mpe_mm
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.geometry.pose import radiological
from DeepIterRegLib.landmarks import Landmarks, PlacedLandmarks, landmark_errors, landmark_warnings, read_landmarks
from DeepIterRegLib.progress import Progress
from DeepIterRegLib.registration import NAMED_INITS, NamedInit, Registration
from DeepIterRegLib.report.outputs import MOST_VIEWS, REGISTRATION_FILES, detector_image, write_registration
from DeepIterRegLib.transforms import read_pose
from DeepIterRegLib.volume import Volume, is_mask, load_volume, save_volume
from DeepIterRegLib.volume_checks import check_cta, prepare_cta

if TYPE_CHECKING:
    from DeepIterRegLib.cta_cache import CtaCache
    from DeepIterRegLib.segmentation.cta import CtaSegmentation
    from DeepIterRegLib.segmentation.dsa import DsaMasks, DsaSegmentation

ShouldStop = Callable[[], bool]
Device = Literal["auto", "cpu", "cuda"]
SubtractionMode = Literal["auto", "subtract", "as_is"]

LANDMARKS = "landmarks"  # as --init

CTA_MASK_FILES = ("vessels.nii.gz", "veins.nii.gz")
DSA_MASK_FILES = (
    "minip.nii.gz",
    "vesselness.nii.gz",
    "vessels.nii.gz",
    "arteries.nii.gz",
    "veins.nii.gz",
    "arrival_time_s.nii.gz",
)
PHANTOM_FOLDER = "patient"
MOST_PHANTOM_VIEWS = 4
PHANTOM_FILES = (
    "cta.nii.gz",
    "dsa.dcm",
    *(f"dsa{n}.dcm" for n in range(2, MOST_PHANTOM_VIEWS + 1)),
    "dsa_clean.dcm",
    "arteries.nii.gz",
    "veins.nii.gz",
    "truth.json",
    "truth.tfm",
)
DEMO_FILES = (*REGISTRATION_FILES, PHANTOM_FOLDER)
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class FurtherRun:
    """Another DSA of a job: a view of the head as it lay in the first. The fields are those of `RegisterJob`."""

    dsa: Path
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    dsa_mask: Path | None = None
    mask_frames: tuple[int, ...] | None = None


@dataclass(frozen=True)
class RegisterJob:
    """One registration of files; the fields are the options of `deepiterreg register`."""

    cta: Path
    dsa: Path
    geometry: GeometryOptions = field(default_factory=GeometryOptions)
    init: str | None = None
    preset: str = "default"
    cta_mask: Path | None = None
    cta_vein_mask: Path | None = None
    dsa_mask: Path | None = None
    reference: Path | None = None
    mask_frames: tuple[int, ...] | None = None
    subtraction: SubtractionMode = "auto"
    device: Device = "auto"
    seed: int = 0
    weights: Path | None = None
    further: tuple[FurtherRun, ...] = ()
    landmarks: Path | None = None
    dsa_landmarks: Path | None = None
    refine_geometry: bool = False
    between_runs: bool = False


@dataclass(frozen=True)
class FurtherView:
    """Another angiogram of a case, of the head as it lay in the first. The fields are those of `Case`."""

    angiogram: Callable[[], Angiogram]
    dsa_vessels: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class Case:
    """One registration, whatever its parts come from: files, or nodes of a scene.

    A part is a function without arguments that gives it, so that everything wrong with all parts is said at once, and so
    that the slow reading happens where `register_case` runs.

    Attributes
    ----------
    cta
        As read; `register_case` checks it and brings it to HU.
    angiogram
        Subtracted, with its C-arm.
    init
        `radiological`, `search`, `network`, `auto`, or None for the preset's; an `initial_pose` replaces it.
    preset, device, seed, weights, refine_geometry, between_runs
        As `RegistrationSettings.preset` takes them.
    cta_vessels, cta_veins
        Masks brought by a person. Vessels replace the segmentation; veins are added to it.
    dsa_vessels : (row, column)
        A mask brought by a person; replaces the segmentation's vessels.
    initial_pose, reference : (4, 4)
        ``cta_to_carm``, RAS mm: where to start, and what to measure the result against.
    landmarks
        Pairs of points: they give the initial pose where neither `init` nor `initial_pose` is given, and are measured at
        the result.
    cta_segmentation, dsa_segmentation
        Settings; None for the defaults.
    segment_cta
        In place of `segment_vessels`, from somebody who keeps its result.
    further
        Other views, which determine the pose together with the first.
    """

    cta: Callable[[], Volume]
    angiogram: Callable[[], Angiogram]
    init: NamedInit | None = None
    preset: str = "default"
    device: Device = "auto"
    seed: int = 0
    weights: str = ""
    cta_vessels: Callable[[], Volume] | None = None
    cta_veins: Callable[[], Volume] | None = None
    dsa_vessels: Callable[[], np.ndarray] | None = None
    initial_pose: Callable[[], np.ndarray] | None = None
    reference: Callable[[], np.ndarray] | None = None
    landmarks: Callable[[], Landmarks | PlacedLandmarks] | None = None
    cta_segmentation: CtaSegmentation | None = None
    dsa_segmentation: DsaSegmentation | None = None
    segment_cta: Callable[[Volume, CtaSegmentation], Volume] | None = None
    further: tuple[FurtherView, ...] = ()
    refine_geometry: bool = False
    between_runs: bool = False


@dataclass(frozen=True)
class Outcome:
    """What `register_case` found, and what it was found on.

    Attributes
    ----------
    registration
    angiogram
        The run as it was registered: subtracted.
    vessels
        The CTA's vessels that were registered, bool on the CTA's grid.
    dsa_masks
        The run's vessels.
    further
        Other views, each with its masks, in the order of `Case.further`.
    """

    registration: Registration
    angiogram: Angiogram
    vessels: Volume
    dsa_masks: DsaMasks
    further: tuple[tuple[Angiogram, DsaMasks], ...] = ()

    @property
    def angiograms(self) -> tuple[Angiogram, ...]:
        """Of all views."""
        return (self.angiogram, *(angiogram for angiogram, _ in self.further))


def register_files(
    job: RegisterJob, folder: Path, on_progress: Progress, on_warning: Callable[[str], None] | None = None
) -> Registration:
    """Read, segment, register and write `report.outputs.registration_files`; `on_warning` as in `register_case`.

    Raises
    ------
    InputError
        Anything unusable among the files and options.
    RegistrationError
        No pose found.
    """
    outcome = register_case(case_of_files(job), on_progress, on_warning=on_warning)
    on_progress("Write report", 0.0)
    write_registration(folder, outcome.registration, outcome.angiograms, outcome.vessels)
    on_progress("Write report", 1.0)
    return outcome.registration


def case_of_files(job: RegisterJob, ctas: CtaCache | None = None) -> Case:
    """The case whose parts are read from the files of a job when `register_case` asks for them, or come from `ctas`."""
    if job.init == LANDMARKS and job.landmarks is None:
        raise InputError("--init is landmarks, but there are none: give a table with --landmarks.")
    if job.dsa_landmarks is not None and job.landmarks is None:
        raise InputError(
            "--dsa-landmarks are one end of pairs: give the points on the CTA with --landmarks (.mrk.json)."
        )
    init = None if job.init == LANDMARKS else job.init
    from_file = init is not None and init not in NAMED_INITS

    def view(run: RegisterJob | FurtherRun) -> FurtherView:
        subtraction = SubtractionSettings(mask_frames=run.mask_frames, mode=job.subtraction)
        return FurtherView(
            partial(read_angiogram, run.dsa, run.geometry, subtraction),
            partial(read_image, run.dsa_mask) if run.dsa_mask else None,
        )

    first = view(job)
    return Case(
        cta=partial(ctas.volume if ctas else load_volume, job.cta),
        segment_cta=partial(ctas.vessels, job.cta) if ctas else None,
        angiogram=first.angiogram,
        init=None if from_file else cast(NamedInit | None, init),
        preset=job.preset,
        device=job.device,
        seed=job.seed,
        weights=str(job.weights or ""),
        cta_vessels=partial(load_volume, job.cta_mask) if job.cta_mask else None,
        cta_veins=partial(load_volume, job.cta_vein_mask) if job.cta_vein_mask else None,
        dsa_vessels=first.dsa_vessels,
        initial_pose=partial(read_pose, str(init)) if from_file else None,
        reference=partial(read_pose, job.reference) if job.reference else None,
        landmarks=partial(_read_landmarks, job.landmarks, job.dsa_landmarks, job.dsa) if job.landmarks else None,
        further=tuple(view(run) for run in job.further),
        refine_geometry=job.refine_geometry,
        between_runs=job.between_runs,
    )


def _read_landmarks(path: Path, dsa_path: Path | None, dsa: Path) -> Landmarks | PlacedLandmarks:
    """Points placed on the DSA lie where its file's own spacing put it, not one given by --pixel-spacing."""
    spacing_mm = None
    if dsa_path is not None:
        with suppress(InputError):  # said where the DSA itself is read
            spacing_mm = loaded_spacing_mm(dsa)
    return read_landmarks(path, dsa_path, spacing_mm)


def register_case(
    case: Case,
    on_progress: Progress,
    should_stop: ShouldStop | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Outcome:
    """Read, segment and register one case.

    Parameters
    ----------
    case
    on_progress
        Called with the name of the step and its fraction done.
    should_stop
        Asked often; True ends the work.
    on_warning
        Told what is wrong with the inputs before the search; the result's warnings repeat it.

    Raises
    ------
    InputError
        Everything unusable among the parts, in one message.
    RegistrationError
        No pose found.
    Cancelled
        `should_stop` said so.
    """
    from DeepIterRegLib.pipeline import RegistrationSettings, register
    from DeepIterRegLib.segmentation.cta import as_cta_mask

    steps = _Steps(on_progress, should_stop)
    with steps.step("Read poses", "read_poses"):
        initial_pose = case.initial_pose() if case.initial_pose else None
        reference = case.reference() if case.reference else None
        brought_landmarks = case.landmarks() if case.landmarks else None
        landmarks: Landmarks | None = None
        by_landmarks = case.landmarks is not None and case.init is None and case.initial_pose is None
        settings = RegistrationSettings.preset(
            case.preset,
            init="file" if case.initial_pose or by_landmarks else case.init,
            device=case.device,
            seed=case.seed,
            weights=case.weights,
            refine_geometry=case.refine_geometry,
            between_runs=case.between_runs,
        )
        if len(case.further) >= MOST_VIEWS:
            raise InputError(
                f"There are {1 + len(case.further)} DSAs; at most {MOST_VIEWS} can be registered together."
            )
    views = (FurtherView(case.angiogram, case.dsa_vessels), *case.further)
    runs: list[tuple[Angiogram, np.ndarray | None]] = []
    for number, view in enumerate(views, 1):
        with steps.step(*(("Read DSA", "read_dsa") if number == 1 else (f"Read DSA {number}", f"read_dsa_{number}"))):
            runs.append(_read_view(view, f"DSA {number}" if len(views) > 1 else ""))
            if number == 1 and brought_landmarks is not None:
                carm = runs[0][0].carm
                landmarks = brought_landmarks.on(carm)
            if number == 1 and landmarks is not None and by_landmarks:
                initial_pose = pose_from_landmarks(landmarks.points_cta_mm, landmarks.pixels, carm).cta_to_carm
    with steps.step("Read CTA", "read_cta"):
        cta, cta_notes = prepare_cta(case.cta())
        brought = [as_cta_mask(read(), cta) for read in (case.cta_vessels, case.cta_veins) if read]
    steps.raise_problems()
    with steps.step("Segment CTA", "segment_cta"):
        vessels = _cta_vessels(case, cta, brought)
    with steps.step("Segment DSA", "segment_dsa"):
        dsa_masks = [_dsa_masks(case, *run, first=number == 0) for number, run in enumerate(runs)]
    steps.raise_problems()
    angiograms = [angiogram for angiogram, _ in runs]
    registration = register(
        cta,
        angiograms,
        settings,
        cta_mask=vessels,
        dsa_masks=dsa_masks,
        initial_pose=initial_pose,
        on_progress=on_progress,
        on_warning=on_warning,
        should_stop=should_stop,
    )
    errors = () if landmarks is None else landmark_errors(landmarks, registration.carm, registration.cta_to_carm)
    registration = replace(
        registration,
        warnings=(*cta_notes, *registration.warnings, *landmark_warnings(errors)),
        landmarks=errors,
        seconds=steps.seconds_with(registration.seconds),
        input_hashes={
            "cta": content_hash(cta.voxels, cta.affine),
            **{f"dsa{n if n > 1 else ''}": content_hash(angiogram.frames) for n, angiogram in enumerate(angiograms, 1)},
        },
    )
    if reference is not None:
        registration = _against(reference, registration)
    (angiogram, masks), *further = zip(angiograms, dsa_masks, strict=True)
    return Outcome(registration, angiogram, vessels, masks, tuple(further))


def _read_view(view: FurtherView, name: str) -> tuple[Angiogram, np.ndarray | None]:
    """A run and the mask that a person brought for it; problems begin with `name` where there are several runs."""
    from DeepIterRegLib.segmentation.dsa import as_dsa_mask

    try:
        angiogram = view.angiogram()
        return angiogram, as_dsa_mask(view.dsa_vessels(), angiogram) if view.dsa_vessels else None
    except InputError as error:
        raise InputError([f"{name}: {problem}" if name else problem for problem in error.problems]) from error


class _Steps:
    """Steps of a job: announced, timed and cancellable. What is wrong with each is kept until `raise_problems` says it all."""

    def __init__(self, on_progress: Progress, should_stop: ShouldStop | None) -> None:
        self._on_progress, self._should_stop = on_progress, should_stop
        self._started = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._problems: list[str] = []

    @contextmanager
    def step(self, name: str, key: str) -> Iterator[None]:
        """Do one; `key` names its seconds."""
        self._stop_if_asked()
        self._on_progress(name, 0.0)
        before = time.perf_counter()
        try:
            yield
        except InputError as error:
            self._problems.extend(error.problems)
        self._seconds[key] = time.perf_counter() - before
        self._on_progress(name, 1.0)

    def raise_problems(self) -> None:
        """To be called before what the steps made is used."""
        if self._problems:
            raise InputError(self._problems)
        self._stop_if_asked()

    def seconds_with(self, others: dict[str, float]) -> dict[str, float]:
        """Those of the steps and of other parts, with the total since the start."""
        return {**self._seconds, **others, "total": time.perf_counter() - self._started}

    def _stop_if_asked(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise Cancelled


def _cta_vessels(case: Case, cta: Volume, brought: list[Volume]) -> Volume:
    """The vessels to register: those segmented here unless a person brought vessels, and all that was brought."""
    from DeepIterRegLib.segmentation.cta import CtaSegmentation, segment_vessels

    segment = case.segment_cta or segment_vessels
    found = [] if case.cta_vessels else [segment(cta, case.cta_segmentation or CtaSegmentation())]
    return _union([*found, *brought])


def _dsa_masks(case: Case, angiogram: Angiogram, brought: np.ndarray | None, first: bool) -> DsaMasks:
    """The run's vessels as segmented here, or as a person brought them (row, column).

    Which frames to use was said of the first run; of the others all are used.
    """
    from DeepIterRegLib.segmentation.dsa import DsaSegmentation, segment_dsa

    settings = case.dsa_segmentation or DsaSegmentation()
    if not first:
        settings = replace(settings, first_frame=DsaSegmentation().first_frame, last_frame=DsaSegmentation().last_frame)
    masks = segment_dsa(angiogram, settings)
    return masks if brought is None else _with_brought_vessels(masks, brought)


def _union(masks: list[Volume]) -> Volume:
    return masks[0].with_voxels(np.logical_or.reduce([mask.voxels for mask in masks]))


def _against(reference: np.ndarray, registration: Registration) -> Registration:
    """The registration with the MPE of each view against a reference pose (4, 4)."""
    found, centre = registration.cta_to_carm, registration.centre_cta_mm
    views = tuple(
        replace(view, mpe_mm_to_reference=float(mpe_mm(view.carm, found, reference, centre)))
        for view in registration.views
    )
    return replace(registration, views=views, mpe_mm_to_reference=views[0].mpe_mm_to_reference)


def content_hash(*arrays: np.ndarray) -> str:
    """What `Registration.input_hashes` keeps of an input, to know it again."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return f"sha256:{digest.hexdigest()}"


def _with_brought_vessels(found: DsaMasks, vessels: np.ndarray) -> DsaMasks:
    """Every brought pixel is fully vessel; arteries and veins stay as found where the brought mask agrees."""
    return replace(
        found,
        vesselness=vessels.astype(np.float32),
        vessels=vessels,
        arteries=found.arteries & vessels,
        veins=found.veins & vessels,
    )


def read_image(path: Path) -> np.ndarray:
    """Pixels (row, column) of an image file (PNG, TIFF) or of a volume of one slice.

    Raises
    ------
    InputError
        Absent or unreadable.
    """
    import SimpleITK as sitk

    if not path.is_file():
        raise InputError(f"DSA mask {path} does not exist: give an image file (PNG, TIFF, NIfTI, NRRD).")
    try:
        image: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise InputError(f"DSA mask {path.name} cannot be read as an image: give PNG, TIFF, NIfTI or NRRD.") from error
    return image


def is_angiogram(path: Path) -> bool:
    """Whether a file looks like a DSA rather than a volume: by what it is, not by its size."""
    return path.is_file() and not path.name.lower().endswith(VOLUME_SUFFIXES)


def segment_cta_file(
    path: Path,
    vessel_mask: Path | None,
    opening_radius_voxels: int,
    min_component_voxels: int,
    folder: Path,
    on_progress: Progress,
) -> dict[str, int]:
    """Write `CTA_MASK_FILES`; how many voxels each holds."""
    from DeepIterRegLib.segmentation.cta import as_cta_mask, segment_veins, segment_vessels

    on_progress("Read CTA", 0.0)
    cta, _ = prepare_cta(load_volume(path))
    on_progress("Segment vessels", 0.0)
    vessels = as_cta_mask(load_volume(vessel_mask), cta) if vessel_mask else segment_vessels(cta)
    on_progress("Segment veins", 0.0)
    veins = segment_veins(vessels, opening_radius_voxels, min_component_voxels)
    on_progress("Write", 0.0)
    for name, mask in zip(CTA_MASK_FILES, (vessels, veins), strict=True):
        save_volume(mask.with_voxels(mask.voxels.astype(np.uint8)), folder / name)
    on_progress("Write", 1.0)
    return {"vessels": int(vessels.voxels.sum()), "veins": int(veins.voxels.sum())}


def segment_dsa_file(
    path: Path,
    geometry: GeometryOptions,
    mask_frames: tuple[int, ...] | None,
    subtraction: SubtractionMode,
    folder: Path,
    on_progress: Progress,
) -> dict[str, int]:
    """Write `DSA_MASK_FILES`; how many pixels each mask holds."""
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    on_progress("Read DSA", 0.0)
    angiogram = read_angiogram(path, geometry, SubtractionSettings(mask_frames=mask_frames, mode=subtraction))
    on_progress("Segment", 0.0)
    masks = segment_dsa(angiogram)
    on_progress("Write", 0.0)
    for name in DSA_MASK_FILES:
        image = getattr(masks, name.removesuffix(".nii.gz"))
        image = image.astype(np.uint8) if image.dtype == bool else image.astype(np.float32)
        save_volume(detector_image(image, angiogram.carm), folder / name)
    on_progress("Write", 1.0)
    return {name: int(getattr(masks, name).sum()) for name in ("vessels", "arteries", "veins")}


def project_file(
    volume_path: Path,
    pose_path: Path | None,
    like: Path | None,
    geometry: GeometryOptions,
    size: tuple[int, int] | None,
    device: Device,
    path: Path,
    on_progress: Progress,
) -> None:
    """Write the projection of a CTA or a mask as a NIfTI of one slice or a PNG."""
    from DeepIterRegLib.report.images import opacity, vessel_projection

    carm = _view(like, geometry, size)
    cta_to_carm = read_pose(pose_path) if pose_path else None
    on_progress("Read volume", 0.0)
    volume = load_volume(volume_path)
    cta_to_carm = radiological(volume.centre_mm) if cta_to_carm is None else cta_to_carm
    on_progress("Project", 0.0)
    if is_mask(volume):
        image = vessel_projection(volume.with_voxels(volume.voxels != 0), carm, cta_to_carm)
        shown = 1 - opacity(image)
    else:
        image = _ray_cast(volume, carm, cta_to_carm, device)
        shown = np.exp(-image)
    on_progress("Write", 0.0)
    if path.suffix == ".png":
        from PIL import Image

        low, high = float(shown.min()), float(shown.max())
        grey = (255 * (shown - low) / max(high - low, 1e-12)).astype(np.uint8)
        Image.fromarray(grey).save(path)
    else:
        save_volume(detector_image(image, carm), path)
    on_progress("Write", 1.0)


def roadmap_file(
    items: Sequence[str],
    pose_path: Path | None,
    like: Path | None,
    frame: int | None,
    geometry: GeometryOptions,
    size: tuple[int, int] | None,
    path: Path,
    layer_path: Path | None,
    on_progress: Progress,
) -> None:
    """Write 3D things at a pose as a PNG: over the MinIP or a frame (from 0) of a DSA, or on black without one.

    Without a DSA and a size the view is that of the pose's registration.json. `layer_path` gets the things alone.
    """
    from DeepIterRegLib.report.outputs import read_registration
    from DeepIterRegLib.roadmap.draw import grey_frame, layer, over, write_png
    from DeepIterRegLib.roadmap.files import parse_items, things_of

    if pose_path is None:
        raise InputError("Nothing says where the head stood: give --pose (ctaToCarm.tfm or registration.json).")
    parsed = parse_items(items)
    cta_to_carm = read_pose(pose_path)
    on_progress("Read DSA", 0.0)
    run = read_angiogram(like, geometry) if like is not None else None
    if run is not None:
        carm = run.carm if size is None else run.carm.resampled(*size)
    elif size is None and pose_path.suffix.lower() == ".json":
        carm = read_registration(pose_path).carm
    else:
        carm = _view(None, geometry, size)
    if frame is not None and (run is None or not 0 <= frame < len(run.frames)):
        held = f"the DSA has {len(run.frames)}" if run is not None else "there is no DSA: give --like"
        raise InputError(f"Frame {frame + 1} is asked for, but {held}.")
    on_progress("Read items", 0.0)
    things = things_of(parsed)
    on_progress("Draw", 0.0)
    drawn = layer(things, carm, cta_to_carm)
    grey = np.zeros((carm.rows, carm.columns), np.uint8) if run is None else grey_frame(run, frame)
    if grey.shape != (carm.rows, carm.columns):
        from PIL import Image

        grey = np.asarray(Image.fromarray(grey).resize((carm.columns, carm.rows), Image.Resampling.BILINEAR))
    write_png(path, over(grey, drawn))
    if layer_path is not None:
        write_png(layer_path, drawn)
    on_progress("Draw", 1.0)


def pick_files(result: Path, pixel: tuple[float, float], vessels: Path | None, view: int = 0) -> dict[str, Any]:
    """The ray of a pixel (column, row) of a registered DSA (view from 0), CTA RAS mm, and the vessel point nearest to it."""
    from DeepIterRegLib.report.outputs import carm_of_view, read_registration
    from DeepIterRegLib.roadmap import nearest_vessel, ray
    from DeepIterRegLib.roadmap.files import vessel_points

    registration = read_registration(result)
    carm = carm_of_view(registration, view)
    column, row = pixel
    if not carm.contains(np.array([column, row])):
        raise InputError(
            f"Pixel {column:g},{row:g} (column,row) lies outside the image of {carm.columns} columns and {carm.rows} rows."
        )
    beam = ray(carm, pixel, registration.cta_to_carm)
    answer: dict[str, Any] = {
        "pixel": [column, row],
        "source_cta_mm": beam.source_mm.tolist(),
        "direction_cta": beam.direction.tolist(),
    }
    if vessels is not None:
        found = nearest_vessel(vessel_points(vessels), beam)
        at = carm.project(found.point_mm[None], registration.cta_to_carm)[0]
        answer["nearest"] = {
            "point_cta_mm": found.point_mm.tolist(),
            "distance_mm": found.distance_mm,
            "depth_mm": found.depth_mm,
            "pixel": at.tolist(),
        }
    return answer


def _view(like: Path | None, geometry: GeometryOptions, size: tuple[int, int] | None) -> CArm:
    if like is not None:
        carm = read_angiogram(like, geometry).carm
        return carm if size is None else carm.resampled(*size)
    if size is None:
        raise InputError(
            "Nothing says how large the image is: give --like DSA, or --size ROWS,COLUMNS with the geometry options."
        )
    from pydicom import Dataset

    from DeepIterRegLib.dicom.geometry_tags import read_carm
    from DeepIterRegLib.dicom.header import Header

    carm, _ = read_carm(Header(Dataset(), {}), *size, geometry)  # a file without tags: options alone
    return carm


def _ray_cast(cta: Volume, carm: CArm, cta_to_carm: np.ndarray, device: Device) -> np.ndarray:
    import torch

    from DeepIterRegLib.rendering.raycast import Method, RaycastProjector, attenuation_per_mm

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    method: Method = "joseph" if device == "cpu" else "trilinear"
    projector = RaycastProjector(attenuation_per_mm(cta), carm, method, device=device)
    with torch.no_grad():
        image: np.ndarray = projector(torch.as_tensor(cta_to_carm)[None])[0].cpu().numpy()
    return image


def write_phantom(seed: int, folder: Path, on_progress: Progress, views: int = 1) -> None:
    """Write a synthetic patient into `folder`; the second view is lateral where the first is AP, and so on in turn."""
    from DeepIterRegLib.phantom import make_patient, second_run, write_patient

    on_progress("Make patient", 0.0)
    patient = make_patient(seed)
    runs = [patient]
    for n in range(1, views):
        on_progress("Make patient", n / views)
        runs.append(second_run(runs[-1], seed=n))
    on_progress("Write patient", 0.0)
    write_patient(runs[0], folder, *runs[1:])
    on_progress("Write patient", 1.0)


def run_demo(seed: int, device: Device, folder: Path, on_progress: Progress) -> Registration:
    """Make a patient, then register it as a stranger would: from its files, with the truth only as reference."""
    patient = folder / PHANTOM_FOLDER
    patient.mkdir()
    write_phantom(seed, patient, on_progress)
    job = RegisterJob(
        cta=patient / "cta.nii.gz",
        dsa=patient / "dsa.dcm",
        reference=patient / "truth.tfm",
        device=device,
        seed=seed,
    )
    return register_files(job, folder, on_progress)


def describe_file(path: Path) -> dict[str, Any]:
    """What is read from a file, and what is missing, by plain names; no patient identity."""
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    if is_angiogram(path):
        from DeepIterRegLib.dicom import describe

        return describe(path)
    return describe_volume(load_volume(path))


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Grid, orientation and values of a volume."""
    values = volume.voxels[:: max(1, volume.voxels.shape[0] // 64)]
    mask = is_mask(volume)
    codes = "".join(
        ("RL", "AP", "SI")[int(np.argmax(np.abs(axis)))][0 if axis[int(np.argmax(np.abs(axis)))] > 0 else 1]
        for axis in volume.affine[:3, :3].T
    )
    k, j, i = volume.voxels.shape
    return {
        "kind": "mask" if mask else "volume",
        "size (i, j, k)": [i, j, k],
        "spacing (mm)": [round(float(s), 4) for s in volume.spacing_mm],
        "axes run towards": codes,
        "centre (RAS mm)": [round(float(c), 2) for c in volume.centre_mm],
        "extent (mm)": [round(n * float(s), 1) for n, s in zip((i, j, k), volume.spacing_mm, strict=True)],
        "values": f"{_short(float(np.nanmin(values)))} to {_short(float(np.nanmax(values)))}"
        + ("" if mask else " (HU)"),
        **({"voxels set": int(np.count_nonzero(volume.voxels))} if mask else {}),
        "notes": list(volume.notes) if mask else _cta_notes(volume),
    }


def _cta_notes(volume: Volume) -> list[str]:
    try:
        return list(check_cta(volume))
    except InputError as error:
        return list(error.problems)


def _short(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.4g}"
