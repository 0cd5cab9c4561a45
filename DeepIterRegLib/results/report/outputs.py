"""The files of one registration, written into a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.progress import between
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.pose_files import as_rigid, write_tfm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.images.files import save_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report.images import projections_in_frames, vessel_projections, write_overlay
from DeepIterRegLib.results.report.page import ShownView, is_rejected, write_report

MAX_VIEWS = 9
# Of the time that the writing takes, when the projections are drawn, and when the page is written.
_PROJECTED, _PAGE = 0.3, 0.9
REGISTRATION_FILES = ("registration.json", "ctaToCarm.tfm", "overlay.png", "projection.nii.gz", "report.html")


def registration_files(views: int) -> tuple[str, ...]:
    """`REGISTRATION_FILES`, with overlay2.png and projection2.nii.gz for a second view, and so on."""
    further = (name for n in range(2, views + 1) for name in (f"overlay{n}.png", f"projection{n}.nii.gz"))
    return (*REGISTRATION_FILES, *further)


def files_of_frames(views: int) -> tuple[str, ...]:
    """What is written of each view beside `registration_files` where the head is seen to move: frames.nii.gz, frames2.nii.gz, ..."""
    return tuple(frames_file(view) for view in range(views))


def frames_file(view: int) -> str:
    """The projection at each position of the head, of a view from 0."""
    return f"frames{view + 1 if view else ''}.nii.gz"


def write_registration(
    folder: Path,
    registration: Registration,
    angiograms: Angiogram | Sequence[Angiogram],
    vessels: Volume,
    on_progress: Callable[[float], None] = lambda done: None,
) -> None:
    """Write `registration_files`, and `files_of_frames` as far as there are some, into an existing folder (`atomic_output.output_folder`).

    Parameters
    ----------
    folder
    registration
    angiograms
        The DSA that was registered, or several.
    vessels
        The CTA's vessel mask that was registered.
    on_progress
        Told the part that is written, 0..1.
    """
    runs = (angiograms,) if isinstance(angiograms, Angiogram) else tuple(angiograms)
    # Shown beside the result, so that a reader sees what the registration changed (A 3.1.1).
    start = pose.radiological(np.asarray(registration.centre_cta_mm, dtype=np.float64))
    # JSON has no NaN: Python would write one that other readers refuse.
    text = json.dumps(registration.to_json_dict(), indent=2, allow_nan=False)
    (folder / "registration.json").write_text(text + "\n", encoding="utf-8")
    write_tfm(folder / "ctaToCarm.tfm", registration.cta_to_carm)
    # The picture is passed on without the report, so it must say this itself.
    stamp = "REJECTED: do not rely on this overlay" if is_rejected(registration) else ""
    shown, pictures = [], []
    with Beside() as beside:
        for number, (view, run) in enumerate(zip(registration.views, runs, strict=True), 1):
            both = np.stack([registration.cta_to_carm, start])
            projection, radiological = vessel_projections(vessels, view.carm, both)
            ending = "" if number == 1 else str(number)
            image = detector_image(projection, view.carm)
            # What is packed is packed beside the page, which is packed too.
            pictures.append(beside.start(partial(save_volume, image, folder / f"projection{ending}.nii.gz")))
            overlay = folder / f"overlay{ending}.png"
            pictures.append(beside.start(partial(write_overlay, overlay, run, projection, stamp=stamp)))
            in_frames = None
            if view.frames is not None and view.frames.is_seen:
                in_frames = projections_in_frames(vessels, view.carm, view.frames)
                volume = Volume(in_frames, image.affine)
                pictures.append(beside.start(partial(save_volume, volume, folder / frames_file(number - 1))))
            shown.append(ShownView(view, run, projection, radiological, in_frames))
            on_progress(_PROJECTED * number / len(runs))
        write_report(folder / "report.html", registration, shown, between(on_progress, _PROJECTED, _PAGE))
        for picture in pictures:
            picture.result()
    on_progress(1.0)


def read_registration(path: Path) -> Registration:
    """The registration of a folder that `write_registration` filled, or of its registration.json.

    Raises
    ------
    InputError
        Absent, or something else.
    """
    file = path / REGISTRATION_FILES[0] if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{name_of(file)} does not exist: the folder of a registration is needed.")
    refusal = f"{name_of(file)} is not the registration.json of a registration, or it is damaged; take it anew from its result."
    tree = read_json(file, refusal)
    try:
        found = Registration.from_json_dict(tree)
        as_rigid(found.cta_to_carm, name_of(file))
        if not _plain(found):
            raise InputError(refusal)
    except MALFORMED:
        raise InputError(refusal) from None
    return found


def _plain(found: Registration) -> bool:
    """Whether what is shown and computed with is of its type: a file that people or programs changed may hold anything."""
    numbers = [found.score, *found.centre_cta_mm, *found.seconds.values()]
    texts: list[object] = [*found.warnings, *(view.name for view in found.views), *found.versions.values()]
    if found.confidence is not None:
        sure = found.confidence
        intervals = [*(sure.error_68_mm or ()), *(sure.error_95_mm or ())]
        may_lack = (sure.expected_error_mm, sure.depth_68_mm, sure.depth_95_mm)
        numbers += [sure.probability, *intervals, *(value for value in may_lack if value is not None)]
        texts += [found.confidence.state, *found.confidence.reasons]
    return (
        found.centre_cta_mm.shape == (3,)
        and all(isinstance(number, (int, float)) and np.isfinite(number) for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and (found.mpe_mm_to_reference is None or isinstance(found.mpe_mm_to_reference, (int, float)))
    )


def carm_of_view(registration: Registration, view: int) -> CArm:
    """The C-arm of one of the views (from 0) that share the pose.

    Raises
    ------
    InputError
        There is no such view.
    """
    count = len(registration.views)
    if not 0 <= view < count:
        raise InputError(Message(f"View {view + 1} is asked for, but the result has {count}", give=("view",)))
    return registration.views[view].carm
