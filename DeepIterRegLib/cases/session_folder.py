"""A session as a folder: `session.json`, a result folder a run (`01`, `02`, ...), and in `together` the poses by all runs.

Each appears whole or not at all, so that a session goes on from whatever an interruption left. No dates: when a run was acquired is
kept from the first one on.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.atomic_output import output_file, output_folder
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose_files import as_rigid, write_tfm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.session import Motion, Placed, SessionRun, Together
from DeepIterRegLib.results.report.outputs import (
    REGISTRATION_FILES,
    files_of_frames,
    read_registration,
    write_registration,
)

SESSION, RUN, TOGETHER, RECEIVED = "session.json", "run.json", "together", "received"
RUN_FILES = (*REGISTRATION_FILES, *files_of_frames(1), RUN)
_VERSION = 1


@dataclass(frozen=True)
class Session:
    """What a session's folder says of the whole.

    Attributes
    ----------
    salt
        Of the hashes by which runs and patients are known again; nobody else's hashes follow from it.
    cta
        Hash of the CTA; empty until it was read.
    patient
        Hash of whose runs they are; empty while nobody has said it.
    """

    salt: str
    cta: str = ""
    patient: str = ""


@dataclass(frozen=True)
class KeptRun:
    """A run that was registered.

    Attributes
    ----------
    name
        Of its folder: "01" is the first that was registered.
    run_id
        Hash of the object.
    since_first_s
        When it was acquired, from the first run on; None where its file does not say it.
    run
    by_hand
        Whether a person set its pose.
    """

    name: str
    run_id: str
    since_first_s: float | None
    run: SessionRun
    by_hand: bool = False

    @property
    def order(self) -> tuple[float, str]:
        """To sort by: when it was acquired; those that do not say it come last, as they came."""
        return (float("inf") if self.since_first_s is None else self.since_first_s), self.name


def open_session(folder: Path) -> Session:
    """The session of a folder, or a new one, which is written at once.

    Raises
    ------
    InputError
        Its file holds something else; the folder is one of other things.
    """
    file = folder / SESSION
    if not file.exists():
        others = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
        if others:
            found = f"{name_of(folder, 'out')} holds other things than a session, {name_of(others[0])} for one"
            raise InputError(Message(found, at="out", advice="Give a new folder, or that of a session."))
        session = Session(secrets.token_hex())
        write_session(folder, session)
        return session
    refusal = f"{SESSION} is not that of a session, or it is damaged: give another folder."
    tree = read_json(file, refusal)
    try:
        session = Session(*(str(tree[name]) for name in ("salt", "cta", "patient")))
        if tree["version"] != _VERSION or not session.salt:
            raise InputError(refusal)
    except MALFORMED:
        raise InputError(refusal) from None
    return session


def write_session(folder: Path, session: Session) -> None:
    """Write `session.json`."""
    values = {"version": _VERSION, **asdict(session), "notice": "Research use only. Not a medical device."}
    with output_file(folder / SESSION, (".json",), overwrite=True) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def session_of_cta(out: Path, session: Session, cta_hash: str, patient: str) -> Session:
    """The session, which now knows its CTA and, where its files say it, its patient.

    Raises
    ------
    InputError
        It is a session of another CTA.
    """
    if session.cta and session.cta != cta_hash:
        found = f"{name_of(out, 'out')} is the session of another CTA"
        raise InputError(Message(found, at="out", advice="Give another folder, or that CTA."))
    known = replace(session, cta=cta_hash, patient=session.patient or patient)
    if known != session:
        write_session(out, known)
    return known


def kept_runs(folder: Path) -> list[KeptRun]:
    """The runs of a session's folder by name.

    Raises
    ------
    InputError
        A run's folder is damaged.
    """
    names = sorted(one.name for one in folder.iterdir() if one.name.isdecimal() and (one / RUN).is_file())
    return [_read_run(folder / name) for name in names]


def write_run(folder: Path, kept: KeptRun, angiogram: Angiogram, vessels: Volume) -> None:
    """Write a run's folder: the files of a registration, and what the session keeps of it.

    `vessels` is the CTA's vessel mask. The pose of `kept.run.registration` is the one that is reported.
    """
    with output_folder(folder / kept.name, RUN_FILES, overwrite=True) as place:
        write_registration(place, kept.run.registration, angiogram, vessels)
        (place / RUN).write_text(json.dumps(_run_values(kept), indent=2) + "\n", encoding="utf-8")


def write_together(folder: Path, runs: Sequence[KeptRun], together: Sequence[Together | None]) -> None:
    """Write the poses that all runs together give: `together/01.tfm` for each, and what is known of them in `together/poses.json`."""
    place = folder / TOGETHER
    place.mkdir(exist_ok=True)
    known = [(kept, found) for kept, found in zip(runs, together, strict=True) if found is not None]
    for kept, found in known:
        with output_file(place / f"{kept.name}.tfm", (".tfm",), overwrite=True) as path:
            write_tfm(path, found.cta_to_carm)
    values = [
        {
            "run": kept.name,
            "segment": kept.run.segment,
            "ctaToCarm": found.cta_to_carm.tolist(),
            "alongBeamDeviationMm": found.along_mm,
            "movedMm": found.moved_mm,
            "carm": found.carm.to_dict(),
        }
        for kept, found in known
    ]
    with output_file(place / "poses.json", (".json",), overwrite=True) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _run_values(kept: KeptRun) -> dict[str, Any]:
    placed, motion = kept.run.placed, kept.run.motion
    return {
        "runId": kept.run_id,
        "secondsSinceFirst": kept.since_first_s,
        "segment": kept.run.segment,
        "byHand": kept.by_hand,
        "motionSinceTheRunBefore": asdict(motion) if motion else None,
        # By this run alone; what is reported, in registration.json, is by it and those before it.
        "alone": {
            "carm": placed.carm.to_dict(),
            "ctaToCarm": placed.cta_to_carm.tolist(),
            "covarianceMm2": placed.covariance_mm2.tolist(),
        }
        if placed
        else None,
    }


def _read_run(folder: Path) -> KeptRun:
    refusal = f"{RUN} of run {folder.name} is damaged: delete that run's folder, and it is registered again."
    tree = read_json(folder / RUN, refusal)
    registration = read_registration(folder)
    try:
        alone, motion, since = tree["alone"], tree["motionSinceTheRunBefore"], tree["secondsSinceFirst"]
        placed = None
        if alone is not None:
            covariance = np.array(alone["covarianceMm2"], dtype=np.float64)
            pose = as_rigid(np.array(alone["ctaToCarm"], dtype=np.float64), RUN)
            placed = Placed(CArm.from_dict(alone["carm"]), pose, covariance)
            if covariance.shape != (6, 6) or not np.all(np.linalg.eigvalsh(covariance) > 0):
                raise InputError(refusal)
        run = SessionRun(
            registration,
            placed,
            int(tree["segment"]),
            _motion(motion) if motion else None,
        )
        since_s = None if since is None else float(since)
        return KeptRun(folder.name, str(tree["runId"]), since_s, run, bool(tree.get("byHand", False)))
    except (*MALFORMED, np.linalg.LinAlgError):
        raise InputError(refusal) from None


def _motion(values: dict[str, Any]) -> Motion:
    across_mm, along_mm, turn_deg = (float(values[name]) for name in ("across_mm", "along_mm", "turn_deg"))
    return Motion(across_mm, along_mm, turn_deg, bool(values["repositioned"]))
