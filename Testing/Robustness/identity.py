"""Does a patient's identity get out? Each element of a header damaged, every reader, every command; all that comes of it is searched.

Records are kept in `out/robustness`, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from identity_commands import OUT, Words, commands, commands_on, wrong_uses
from identity_damage import damage_bytes, damage_text, damages, elements_of
from identity_patient import ROOT, PatientFiles, held, make_others, make_small, make_whole, said

sys.path.insert(0, str(ROOT / "Testing" / "Benchmarks"))
import benchmarking

NAME, LONG = "identity", "identity_commands"
SEED = 0
_SMALL_EACH = 1  # damages of an element in the small pass
_LONGEST_S = 900.0  # of one command
_CODES = {0: "done", 2: "refused", 3: "some cases failed"}  # Resources/Docs/command_line.md

Case = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """0 if the identity was found nowhere."""
    parser = argparse.ArgumentParser(prog=f"{NAME}.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--small", action="store_true", help="a quick pass, without commands that take long")
    parser.add_argument("--long", action="store_true", help=f"the commands that take long alone; table {LONG}.md")
    parser.add_argument("--fresh", action="store_true", help="look again at what is on record")
    parser.add_argument(
        "--results", type=Path, help="folder of the table (default: results, or out/robustness if small)"
    )
    values = parser.parse_args(argv)
    kept = ROOT / "out" / "robustness"
    results = values.results or (kept if values.small else Path(__file__).parent / "results")
    for folder in (kept, results):
        folder.mkdir(parents=True, exist_ok=True)
    record = kept / f"{LONG if values.long else NAME}{'-small' if values.small else ''}.jsonl"
    if values.fresh or values.small:
        record.unlink(missing_ok=True)
    ends = time.monotonic() + values.seconds
    with tempfile.TemporaryDirectory() as folder:
        every = 0 if not values.small else _SMALL_EACH
        if not values.long:
            _work_through(_cases(Path(folder), every, values.small), record, ends)
        if not values.small and time.monotonic() < ends:
            _work_through(_long_cases(Path(folder)), record, ends)
    return _write_table(record, results, values)


# -- cases -----------------------------------------------------------------------------------------------


@dataclass
class Looked:
    """What was searched, and what was found.

    Attributes
    ----------
    inputs
        Damaged files, or commands.
    texts, files
        Searched; `texts` in characters.
    exits
        Codes of the commands that were processes of their own.
    found
        What was done, and what pieces of the identity came of it.
    """

    inputs: int = 0
    texts: int = 0
    files: int = 0
    exits: list[int] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def text(self, what: str, text: str) -> None:
        self.texts += len(text)
        if pieces := said(text):
            at = text.lower().find(pieces[0])
            self.found.append(f"{what}: {pieces[:3]} in ...{text[max(0, at - 60) : at + 60]!r}...")

    def folder(self, what: str, folder: Path) -> None:
        """Contents of all files, and their names below the folder."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            self.text(f"{what}, a name", path.relative_to(folder).as_posix() if path != folder else "")
            if path.is_file():
                self.files += 1
                if secrets := held(path):
                    self.found.append(f"{what}, {path.name}: {secrets}")


Work = Callable[[], Looked]


def _work_through(cases: Iterator[tuple[str, str, Work]], record: Path, ends: float) -> None:
    """Do what is not on record yet, and write a line for each case."""
    known = {(line["group"], line["case"]) for line in _lines(record)}
    at = benchmarking.commit()
    for group, case, work in cases:
        if time.monotonic() > ends:
            return
        if (group, case) in known:
            continue
        looked = work()
        line = {"group": group, "case": case, "commit": at, **vars(looked)}
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if looked.found:
            print(f"{group}, {case}: {len(looked.found)} times, as in {looked.found[0]}", flush=True)


def _lines(record: Path) -> list[dict[str, Any]]:
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _cases(folder: Path, every: int, small: bool) -> Iterator[tuple[str, str, Work]]:
    """Group, name and work of what takes milliseconds; `every` damages of each element, 0 for all."""
    patient = make_small(folder / "small")
    slices = sorted(patient.slices.iterdir())
    for group, file, doors in (
        ("elements of a DSA", patient.dsa, _doors_of_run(patient)),
        ("elements of a CT slice", slices[2], _doors_of_slices(patient)),
    ):
        data = file.read_bytes()
        for element in elements_of(data):
            rng = _rng(group, element.name)
            listed = _some(list(damages(data, element, rng)), every, rng)
            yield group, element.name, _damaging(file, data, listed, doors)
    for path in (patient.cta, patient.mask, patient.truth):
        data = path.read_bytes()
        rng = _rng("bytes", path.suffix)
        listed = _some(list(damage_bytes(data, rng, 40)), 4 * every, rng)
        yield "bytes of other files", path.suffix, _damaging(path, data, listed, _doors_of_file(path))
    for number, path in enumerate(make_others(patient)):
        if small and number % 3:
            continue
        data = path.read_bytes()
        rng = _rng("others", str(number))
        listed = [("as it is", data), *_some([*damage_text(data, rng), *damage_bytes(data, rng, 3)], every or 25, rng)]
        case = f"{number} {''.join(path.suffixes)}"
        yield "files of every other kind", case, _damaging(path, data, listed, _doors_of_file(path))
        yield "commands on such files", case, lambda path=path: _looked_at(patient, commands_on(path, patient, small))
    yield "wrong use", "of every command", lambda: _looked_at(patient, wrong_uses(patient))
    yield "faults of ours", "raised within", lambda: _faults(patient)


def _rng(*words: str) -> random.Random:
    return random.Random(int.from_bytes(hashlib.sha256("/".join((str(SEED), *words)).encode()).digest()[:8], "big"))


def _some(listed: list[Any], every: int, rng: random.Random) -> list[Any]:
    return rng.sample(listed, min(every, len(listed))) if every else listed


def _damaging(file: Path, data: bytes, listed: list[tuple[str, bytes]], doors: dict[str, Callable[[], Any]]) -> Work:
    def work() -> Looked:
        looked = Looked()
        for what, damaged in listed:
            file.write_bytes(damaged)
            looked.inputs += 1
            for door, read in doors.items():
                looked.text(f"{what}, {door}", heard(read))
        file.write_bytes(data)
        return looked

    return work


# -- doors -----------------------------------------------------------------------------------------------


def heard(read: Callable[[], Any]) -> str:
    """All that a person could come to know of a call: what it gives, prints, warns, logs and raises, with what that came from."""
    given = ""
    with tempfile.TemporaryFile() as kept, _stderr_into(kept), warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            given = str(read())
        except Exception as error:
            given = "".join(traceback.format_exception(error)) + " ".join(getattr(error, "__notes__", ()))
        sys.stderr.flush()
        kept.seek(0)
        printed = kept.read().decode("utf-8", "replace")
    return f"{given}\n{printed}"


@contextlib.contextmanager
def _stderr_into(file: Any) -> Iterator[None]:
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)
        os.close(before)


def _doors_of_run(patient: PatientFiles) -> dict[str, Callable[[], Any]]:
    from xa_files import TYPED

    from DeepIterRegLib.cases.describe import describe_file
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.dicom.header import open_header
    from DeepIterRegLib.images.dicom.header_copy import copy_header

    return {
        "described": lambda: describe_file(patient.dsa),
        "read": lambda: read_angiogram(patient.dsa).notes,
        "read with what was typed": lambda: read_angiogram(patient.dsa, TYPED).notes,
        "kept with a scene": lambda: _decoded(copy_header(open_header(patient.dsa))),
    }


def _decoded(text: str) -> str:
    """JSON of DICOM with its binary values as text."""
    import base64

    def found(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key == "InlineBinary":
                    yield base64.b64decode(item).decode("latin-1")
                yield from found(item)
        elif isinstance(value, list):
            for item in value:
                yield from found(item)

    return " ".join((text, *found(json.loads(text))))


def _doors_of_slices(patient: PatientFiles) -> dict[str, Callable[[], Any]]:
    from DeepIterRegLib.cases.describe import describe_file
    from DeepIterRegLib.images.files import load_volume

    return {
        "described": lambda: describe_file(patient.slices),
        "read": lambda: load_volume(patient.slices).notes,
        "one of them": lambda: describe_file(sorted(patient.slices.iterdir())[2]),
    }


def _doors_of_file(path: Path) -> dict[str, Callable[[], Any]]:
    from xa_files import TYPED

    from DeepIterRegLib.cases.describe import describe_file
    from DeepIterRegLib.cases.table import read_cases
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegLib.images.masks import read_image_mask, read_mask
    from DeepIterRegLib.registration.landmarks import read_landmarks
    from DeepIterRegLib.registration.network.config import read_settings
    from DeepIterRegLib.registration.network.weights import load_network
    from DeepIterRegLib.results.roadmap.files import parse_item, things_of
    from DeepIterRegLib.studies.reader_study.ranks import read_ranks

    doors: dict[str, Callable[[], Any]] = {"described": lambda: describe_file(path)}
    if path.suffix == ".csv":
        doors |= {
            "as cases": lambda: [case.problems for case in read_cases(path)],
            "as ranks": lambda: read_ranks(path),
        }
    if path.suffix in (".csv", ".json", ".fcsv"):
        doors["as landmarks"] = lambda: read_landmarks(path)
        doors["as landmarks of both"] = lambda: read_landmarks(path, path)
    if path.suffix in (".tfm", ".h5", ".mat", ".json", ".txt"):
        doors["as a pose"] = lambda: read_pose(path)
    if path.suffix in (".gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".zip"):
        doors |= {"as a CTA": lambda: load_volume(path).notes, "as a mask": lambda: read_mask(path).notes}
    if path.suffix in (".png", ".tif", ".jpg", ".dcm"):
        doors |= {
            "as a DSA": lambda: read_angiogram(path, TYPED).notes,
            "as its mask": lambda: read_image_mask(path).shape,
        }
    if path.suffix == ".toml":
        doors["as settings"] = lambda: read_settings(path)
    if path.suffix == ".safetensors":
        doors["as weights"] = lambda: load_network(path)
    if path.suffix in (".stl", ".swc", ".json", ".nrrd"):
        doors["as an item"] = lambda: len(things_of([parse_item(str(path))]))
    return doors


# -- commands in this process ------------------------------------------------------------------------------


def _looked_at(patient: PatientFiles, lines: Iterator[Words]) -> Looked:
    looked = Looked()
    for words in lines:
        looked.inputs += 1
        looked.text(" ".join(map(str, words[:2])), run(*words))
    shutil.rmtree(patient.folder / OUT, ignore_errors=True)
    return looked


def run(*words: str | Path) -> str:
    """What a command prints and raises, in this process."""
    from typer.testing import CliRunner

    from DeepIterRegLib.cli import app

    def call() -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        error = done.exception
        raised = "" if error is None or isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
        return done.output + done.stderr + raised

    return heard(call)


def _faults(patient: PatientFiles) -> Looked:
    """An exception of a library that quotes a header, raised where nobody expects it."""
    from DeepIterRegLib.cases import describe
    from DeepIterRegLib.common.workers import run_items

    before, looked = describe.describe_file, Looked(inputs=2)

    def broken(*arguments: Any, **named: Any) -> Any:
        raise KeyError(f"PatientName {patient.folder.name}")

    describe.describe_file = broken
    try:
        looked.text("info", run("info", patient.dsa))
    finally:
        describe.describe_file = before
    record = patient.folder / "record.jsonl"
    looked.text("work", heard(lambda: run_items(broken, [{"n": 1}], record=record)) + record.read_text())
    record.unlink()
    return looked


# -- commands as processes of their own --------------------------------------------------------------------


def _long_cases(folder: Path) -> Iterator[tuple[str, str, Work]]:
    """Every command on a whole patient, one after the other: later ones use what the earlier have written."""
    source = _phantom()
    patient = make_whole(source, folder / "whole")
    for name, words, looked_in in commands(patient):
        yield "commands on a whole patient", name, lambda words=words, looked_in=looked_in: _typed(words, looked_in)


def _phantom() -> Path:
    """Files of a coarse phantom; made once."""
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    folder = benchmarking.CACHE / "identity-phantom"
    if not (folder / "truth.tfm").exists():
        coarse = CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0))
        folder.mkdir(parents=True, exist_ok=True)
        write_patient(make_patient(1, PhantomSettings(cta=coarse, view=ViewSettings(matrices=(256,)))), folder)
    return folder


def _typed(words: Sequence[str | Path], looked_in: Sequence[Path]) -> Looked:
    done = subprocess.run(
        [sys.executable, "-m", "DeepIterRegLib.cli", *map(str, words)],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=ROOT,
        timeout=_LONGEST_S,
        check=False,
    )
    looked = Looked(inputs=1, exits=[done.returncode])
    looked.text(f"printed (exit {done.returncode})", done.stdout + done.stderr)
    for folder in looked_in:
        looked.folder("written", folder)
    return looked


# -- the table -----------------------------------------------------------------------------------------------


def _write_table(record: Path, results: Path, values: argparse.Namespace) -> int:
    lines = _lines(record)
    groups = list(dict.fromkeys(line["group"] for line in lines))
    rows = []
    for group in groups:
        own = [line for line in lines if line["group"] == group]
        total = {key: sum(line[key] for line in own) for key in ("inputs", "texts", "files")}
        found = sum(len(line["found"]) for line in own)
        rows.append([group, len(own), f"{total['inputs']:,}", f"{total['texts']:,}", total["files"], found])
    found = sum(len(line["found"]) for line in lines)
    header = [
        "what",
        "of",
        "inputs or commands",
        "characters printed, given or raised",
        "files written",
        "with identity",
    ]
    examples = "".join(f"\n- {line['group']}, {line['case']}: {text}" for line in lines for text in line["found"][:1])[
        :4000
    ]
    body = (
        "A patient whose name, ID, birth date, accession number, institution, physician, file names and folders cannot be overlooked. "
        "In what is printed or raised every piece of five letters counts, in files every word, unpacked and decoded. Target: 0. "
        f"{benchmarking.verdict(found == 0)}.\n\n{benchmarking.table(header, rows)}\n{examples}\n{_exits(lines)}"
    )
    typed = "".join(f" --{name}" for name in ("small", "long") if getattr(values, name))
    command = f"python Testing/Robustness/identity.py{typed}"
    options = benchmarking.Options(None, 1, values.fresh, values.small, results, command)
    of_each = [{**line, "jobs": 1} for line in lines]
    benchmarking.write_result(
        LONG if values.long else NAME, "Does a patient's identity get out?", body, options, of_each
    )
    return int(found > 0 or any(code not in _CODES for line in lines for code in line["exits"]))


def _exits(lines: list[dict[str, Any]]) -> str:
    """How each command that was a process of its own ended."""
    rows = [
        [line["case"], *(f"{code}: {_CODES.get(code, '**a fault**')}" for code in line["exits"]), line["files"]]
        for line in lines
        if line["exits"]
    ]
    return benchmarking.table(["command", "exit code", "files written"], rows) if rows else ""


if __name__ == "__main__":
    np.seterr(all="ignore")
    sys.exit(main())
