"""A result folder and an export's name to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message, Remedy
from DeepIterRegLib.common.options import Contrast, SubtractionMode
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import calling, name_of
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose_files import write_tfm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings, read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import Registration, content_hash, hash_name
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.export import cameras, film
from DeepIterRegLib.results.report.images import layer_as_shown, red_layer
from DeepIterRegLib.results.report.outputs import carm_of_view, frames_file, read_registration

Camera = Callable[[CArm, np.ndarray], dict[str, Any]]
CAMERAS: dict[str, Camera] = {
    "opencv": cameras.opencv,
    "diffdrr": cameras.diffdrr,
    "nanodrr": cameras.nanodrr,
    "vtk": cameras.vtk_camera,
}
SUFFIXES = {"itk": (".tfm", ".h5", ".txt"), **dict.fromkeys(CAMERAS, (".json",)), "mp4": (".mp4",), "gif": (".gif",)}
DICOM_FILES = ("registration.dcm", "overlay.dcm")
ALPHA = 0.75


@dataclass(frozen=True)
class ExportJob:
    """One export; the fields are the options of `deepiterreg export`.

    Attributes
    ----------
    frame
        From 0, of the DICOM overlay; None for the MinIP.
    items
        What is drawn over the run; nothing for the registered vessels.
    check
        Refuse a DSA or CTA that is not the one registered; else only tell.
    view
        From 0, of the views that share the pose.
    still
        What is drawn lies in each frame where the pose shows it, whatever the head did.
    """

    result: Path
    to: str
    dsa: Path | None = None
    cta: Path | None = None
    series: str | None = None
    phase: int | None = None
    identify: bool = False
    frame: int | None = None
    items: tuple[str, ...] = ()
    mask_frames: tuple[int, ...] | None = None
    subtraction: SubtractionMode = "auto"
    contrast: Contrast = "auto"
    check: bool = True
    view: int = 0
    still: bool = False


def export_result(job: ExportJob, path: Path, on_progress: Progress) -> list[str]:
    """Write one file, or the folder's `DICOM_FILES`; what a person should know of it.

    Raises
    ------
    InputError
        No result, no DSA where pixels are needed, or a DSA or CTA that is not the one registered.
    """
    registration = read_registration(job.result)
    carm = carm_of_view(registration, job.view)
    if job.identify and job.to != "dicom":
        raise InputError(
            Message("Only the export to DICOM holds a patient's identity", at="identify", give=(Remedy("to", "dicom"),))
        )
    if job.to == "itk":
        write_tfm(path, registration.cta_to_carm)
        return []
    if job.to in CAMERAS:
        values = CAMERAS[job.to](carm, registration.cta_to_carm)
        path.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return []
    on_progress.expect(expected(Step.READ_DSA, Step.DRAW))
    on_progress(Step.READ_DSA, 0.0)
    run, notes = _registered_run(job, registration, carm)
    on_progress(Step.DRAW, 0.0)
    overlays, still = _overlays(job, registration, carm, len(run.frames))
    notes += still
    if job.to == "mp4":
        film.write_mp4(path, run, overlays[:-1])
    elif job.to == "gif":
        film.write_gif(path, run, overlays[:-1])
    else:
        notes += _write_dicom(job, registration, run, overlays, path)
    on_progress(Step.DRAW, 1.0)
    return notes


def _registered_run(job: ExportJob, registration: Registration, carm: CArm) -> tuple[Angiogram, list[str]]:
    """The run that was registered, from its file: the result keeps no pixels of it."""
    if job.dsa is None:
        raise InputError(
            Message(f"An export to {job.to} needs the run's pixels, which a result does not keep", give=("dsa",))
        )
    # The result's own C-arm, with what was typed or corrected: the header may lack it, and nobody has to type it again.
    geometry = GeometryOptions(
        projection_matrix=carm.projection_matrix, sid_mm=carm.sid_mm, pixel_spacing_mm=carm.pixel_spacing_mm
    )
    how = SubtractionSettings(mask_frames=job.mask_frames, mode=job.subtraction, contrast=job.contrast)
    run = calling("dsa", read_angiogram)(job.dsa, geometry, how)
    if run.frames.shape[1:] != (carm.rows, carm.columns):
        raise InputError(
            f"{name_of(job.dsa, 'dsa')} has {run.frames.shape[1]} rows and {run.frames.shape[2]} columns, the run that was registered "
            f"{carm.rows} and {carm.columns}: give the DSA of this result."
        )
    otherwise = (
        "It may have been subtracted in another way: mask frames and subtraction must be those of its registration."
    )
    notes = _checked(job, registration, hash_name(job.view), "dsa", job.dsa, otherwise, run.frames)
    return replace(run, carm=carm), notes


def _overlays(
    job: ExportJob, registration: Registration, carm: CArm, frames: int
) -> tuple[list[np.ndarray], list[str]]:
    """What lies over each frame (row, column, 4) uint8, and last over the MinIP: items, or the registered vessels as the report has them.

    It lies where the head lay in the frame, as far as the result knows that; a note where the head moved and it does not.
    """
    motion = registration.views[job.view].frames
    if job.still or motion is None or not motion.is_seen:
        at_pose, _ = _layers(job, registration, carm, None)
        return [at_pose] * (frames + 1), []
    # Of another run, unchecked, nothing is known.
    known = motion if len(motion.of_frame) == frames else None
    at_pose, at_positions = _layers(job, registration, carm, known)
    if not at_positions:
        why = (
            "the result is of another number of frames" if known is None else f"{frames_file(job.view)} does not exist"
        )
        return [at_pose] * (frames + 1), [f"What is drawn does not follow the head, which moved: {why}."]
    return [*(at_positions[position] for position in motion.of_frame), at_pose], []


def _layers(
    job: ExportJob, registration: Registration, carm: CArm, motion: FrameMotion | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What is drawn, at the registered pose and, where there is a motion to follow, at each position of the head."""
    if job.items:
        from DeepIterRegLib.results.roadmap.draw import layer
        from DeepIterRegLib.results.roadmap.files import parse_items, things_of

        things = things_of(parse_items(job.items))
        positions = () if motion is None else zip(motion.cta_to_carm, motion.undone, strict=True)
        moved = [layer_as_shown(layer(things, carm, at), undone) for at, undone in positions]
        return layer(things, carm, registration.cta_to_carm), moved
    folder = job.result if job.result.is_dir() else job.result.parent
    name = "projection.nii.gz" if job.view == 0 else f"projection{job.view + 1}.nii.gz"
    if not (folder / name).is_file():
        raise InputError(f"{name} does not exist: the folder of a registration is needed, or items to draw.")
    at_pose = red_layer(_projections(folder / name, carm, 1)[0], ALPHA)
    in_frames = folder / frames_file(job.view)
    if motion is None or not in_frames.is_file():
        return at_pose, []
    pictures = _projections(in_frames, carm, len(motion.cta_to_carm))
    return at_pose, [red_layer(picture, ALPHA) for picture in pictures]


def _projections(path: Path, carm: CArm, count: int) -> np.ndarray:
    """So many projections (n, row, column), mm, on the detector.

    Raises
    ------
    InputError
        The file holds others, or something else.
    """
    found = load_volume(path).voxels
    if found.shape != (count, carm.rows, carm.columns) or not np.isfinite(found).all():
        raise InputError(
            f"{path.name} is not of this registration, or it is damaged: take the folder anew from its result."
        )
    return found


def _write_dicom(
    job: ExportJob, registration: Registration, run: Angiogram, overlays: list[np.ndarray], folder: Path
) -> list[str]:
    """The two files; `overlays` are those of `_overlays`."""
    from DeepIterRegLib.images.dicom import derived
    from DeepIterRegLib.results.roadmap.draw import burn_notice, grey_frame, over

    assert job.dsa is not None
    count = len(run.frames)
    if job.frame is not None and not 0 <= job.frame < count:
        raise InputError(f"Frame {job.frame + 1} is asked for, but the DSA has {count}.")
    # Before anything is written: the wrong patient's frame of reference would place this one's vessels.
    notes = [] if job.cta is None else _checked_cta(job, registration, job.cta)
    # Identifiers come from the result: the same export twice gives the same objects, and no two results share one.
    salt = json.dumps(registration.to_json_dict(), sort_keys=True)
    study = calling("dsa", derived.read_study)(job.dsa, job.cta, salt, job.identify, job.series or "", job.phase)
    derived.write_spatial_registration(folder / DICOM_FILES[0], study, registration.cta_to_carm)
    shown = range(count) if job.frame is None else [job.frame]
    words = "MinIP of the run" if job.frame is None else f"Frame {job.frame + 1} of the run"
    overlay = overlays[-1 if job.frame is None else job.frame]
    picture = burn_notice(over(grey_frame(run, job.frame), overlay))
    words += " with the registered CTA over it"
    derived.write_secondary_capture(folder / DICOM_FILES[1], study, picture, run.carm, shown, words)
    if job.identify:
        notes.append(f"Identity kept in the DICOM files: {', '.join(study.kept)}.")
        if not study.ct:
            notes.append(
                Message(
                    "The CTA's frame of reference is unknown, so one was made up; its DICOM folder tells it",
                    give=("cta",),
                )
            )
    # Headers can be left out, pixels not: only a person sees whether a name stands in them.
    if study.burned_in != "NO" and not job.identify:
        says = "says that its pixels name" if study.burned_in else "does not say whether its pixels name"
        notes.append(f"The DSA {says} the patient: look at the overlay before it leaves.")
    return notes


def _checked_cta(job: ExportJob, registration: Registration, path: Path) -> list[str]:
    if not path.is_dir():
        raise InputError(
            Message(
                f"{name_of(path, 'cta')} is no folder; only DICOM slices hold the frame of reference and can be referred to",
                at="cta",
            )
        )
    cta = calling("cta", load_volume)(path, job.series, job.phase)
    return _checked(job, registration, "cta", "cta", path, "", cta.voxels, cta.affine)


def _checked(
    job: ExportJob,
    registration: Registration,
    kind: str,
    option: str,
    path: Path,
    otherwise: str,
    *arrays: np.ndarray,
) -> list[str]:
    """A note if it cannot be known, or need not be, that an input is the one that was registered.

    Raises
    ------
    InputError
        It is another.
    """
    kept = registration.input_hashes.get(kind)
    if kept is None:
        return [
            Message(
                f"The result does not say what was registered, so {name_of(path, option)} could not be checked",
                at=option,
            )
        ]
    if kept == content_hash(*arrays):
        return []
    # A hash differs by a single bit: another release, or another processor, may subtract with other rounding. So there
    # is a way past it.
    if job.check:
        raise InputError(
            Message(
                f"{name_of(path, option)} is not what was registered",
                at=option,
                advice=" ".join(filter(None, ("Give that of this result, or take this one unchecked.", otherwise))),
                give=("no_check",),
            )
        )
    return [
        Message(f"{name_of(path, option)} is not what was registered, or its pixels were computed otherwise", at=option)
    ]
