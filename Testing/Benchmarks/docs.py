"""Every command of README and documentation, as a reader types it: those that the tests leave out for their minutes, too.

A block of a page says after its language what becomes of it:

- nothing: the tests run it (`Testing/Python/test_docs.py`), and so does this script;
- `slow: why`: only this script runs it;
- `slicer`: the tests run it on the stand-in for 3D Slicer (`Testing/Slicer/test_docs_slicer.py`);
- `elsewhere: why`: nobody runs it here;
- the name of a file: it is written under that name for the commands that follow.

Programs that are never run here stand in `NOT_RUN`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import benchmarking
import numpy as np
from benchmarking import ROOT, table

PAGES = (ROOT / "README.md", *sorted((ROOT / "Resources" / "Docs").glob("*.md")))
NOT_RUN = {
    "pip": "installs packages",
    "make": "makes .venv and runs every test; .ci/run does both in a fresh clone",
    "Slicer": "needs 3D Slicer; Testing/Slicer runs the scripts on its stand-in",
}
CHECKOUT = ("DeepIterReg", "Resources")  # folders that commands name; they stand where the page's commands run
# What a page's commands find, and which file of the patient it is.
INPUTS = {
    "cta.nii.gz": "cta.nii.gz",
    "run.dcm": "dsa.dcm",
    "ap.dcm": "dsa.dcm",
    "lateral.dcm": "dsa2.dcm",
    "vessels.nii.gz": "arteries.nii.gz",
    "truth.tfm": "truth.tfm",
    "start.tfm": "truth.tfm",
    "patient1": "",
    "patient2": "",
}
TABLES = {"cases.csv": "many_patients.md", "table.csv": "reader_study.md"}  # written by one page, named by others too


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    page, line
        Where it begins.
    language, rest
        First word after the fence, and what follows it.
    text
    """

    page: Path
    line: int
    language: str
    rest: str
    text: str

    @property
    def when(self) -> str:
        """`slow`, `slicer`, `elsewhere`, or nothing."""
        word = re.match(r"(slow|slicer|elsewhere)\b", self.rest)
        return word.group() if word else ""

    @property
    def reason(self) -> str:
        """Why it is not run with the tests."""
        return self.rest.partition(":")[2].strip()

    @property
    def file(self) -> str:
        """Name of the file that it is; empty for none."""
        return self.rest if self.rest and not self.when else ""

    def commands(self) -> list[list[str]]:
        """Words of each command of a `sh` block, comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> list[Block]:
    """Fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: found.start()].count("\n") + 1, found[1], found[2].strip(), found[3])
        for found in re.finditer(r"^```(\S*)[ \t]*([^\n]*)\n(.*?)^```[ \t]*$", text, re.M | re.S)
    ]


def to_run(page: Path, slow: bool) -> Iterator[Block]:
    """Blocks of a page that are run or written, in order; the slow ones where asked for."""
    for block in blocks_of(page):
        if (
            block.when in ("", "slow")
            and (slow or not block.when)
            and (block.language in ("sh", "python") or block.file)
        ):
            yield block


def outputs(blocks: Sequence[Block]) -> set[str]:
    """First part of each path that commands write."""
    words = [words for block in blocks if block.language == "sh" for words in block.commands()]
    named = [words[n + 1] for words in words for n, word in enumerate(words[:-1]) if word in ("--out", "-o")]
    return {Path(name).parts[0] for name in named}


def provide(folder: Path, patient: Path, result: Path, blocks: Sequence[Block]) -> None:
    """Put into a folder what the commands of a page find, unless they make it.

    `patient` is the folder of a phantom with two runs, `result` what `register` wrote of its first run.
    """
    made = outputs(blocks) | {block.file for block in blocks}
    for name in CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    for name, file in INPUTS.items():
        if name not in made:
            (folder / name).symlink_to(patient / file)
    if "demo" not in made:
        shutil.copytree(result, folder / "demo")
        (folder / "demo" / "patient").symlink_to(patient)
    if "results" not in made:
        for method in ("automatic", "manual"):
            shutil.copytree(result, folder / "results" / f"patient1_{method}")
    for name, page in TABLES.items():
        if name not in made:
            texts = [block.text for block in blocks_of(ROOT / "Resources" / "Docs" / page) if block.file == name]
            (folder / name).write_text(texts[0], encoding="utf-8")
    write_landmarks(folder / "points.csv", patient)


def write_landmarks(path: Path, patient: Path) -> None:
    """Eight pairs of points, exact at the true pose."""
    from DeepIterRegLib.geometry import cube_corners
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume

    points = cube_corners(load_volume(patient / "cta.nii.gz").centre_mm)
    pixels = read_angiogram(patient / "dsa.dcm").carm.project(points, read_pose(patient / "truth.tfm"))
    rows = [",".join(f"{value:.2f}" for value in row) for row in np.c_[points, pixels]]
    lines = ["name,x,y,z,column,row", *(f"point {n},{row}" for n, row in enumerate(rows, 1))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def answer(folder: Path) -> None:
    """What a study's readers do: each finds the right side better in every pair."""
    from DeepIterRegLib.studies.reader_study.reading import Reading

    for reader in sorted((folder / "study").glob("reader*")):
        reading = Reading(reader)
        while not reading.done:
            reading.answer(4)


# What people do before a command, by the command's first words.
BEFORE: dict[tuple[str, ...], Callable[[Path], None]] = {("deepiterreg", "study", "unblind"): answer}


def people_before(words: Sequence[str], folder: Path) -> None:
    """Do what people do before a command of these words."""
    for first, act in BEFORE.items():
        if tuple(words[: len(first)]) == first:
            act(folder)


# -- as a reader types them ---------------------------------------------------------------------------


def run_typed(page: Path, folder: Path, slow: bool) -> list[tuple[str, float]]:
    """Run the blocks of a page in a folder, each command by a shell; commands and their seconds.

    Raises
    ------
    RuntimeError
        A command that did not end with 0: the command and what it said.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    before = Path(tempfile.mkdtemp())
    done: list[tuple[str, float]] = []
    blocks = list(to_run(page, slow))
    last = max((n for n, block in enumerate(blocks) if block.language == "python"), default=-1)
    python = ""  # a page's blocks go on from each other, so that they run together, where the last one stands
    for n, block in enumerate(blocks):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
            continue
        if block.language == "python":
            python += block.text
            (before / "page.py").write_text(python, encoding="utf-8")
            commands = [["python", str(before / "page.py")]] if n == last else []
        else:
            commands = [words for words in block.commands() if words[0] not in NOT_RUN]
        for words in commands:
            people_before(words, folder)
            print(f"  {shlex.join(words)}", flush=True)
            begin = time.perf_counter()
            ended = subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
            if ended.returncode:
                said = (ended.stdout + ended.stderr)[-2000:]
                raise RuntimeError(
                    f"{page.name}, line {block.line}: {shlex.join(words)}: exit code {ended.returncode}\n{said}"
                )
            done.append((shlex.join(words).replace(str(before) + os.sep, ""), time.perf_counter() - begin))
    shutil.rmtree(before)
    return done


def make_patient(folder: Path, small: bool) -> tuple[Path, Path]:
    """A phantom with two runs in `folder`, and what a quick registration of the first one writes: both folders."""
    from DeepIterRegLib.cases.files import RegisterJob, register_files
    from DeepIterRegLib.common.progress import Progress
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, second_run, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    coarse = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)),
        view=ViewSettings(matrices=(256,)),
    )
    patient, result = folder / "patient", folder / "result"
    patient.mkdir()
    result.mkdir()
    phantom = make_patient(1, coarse if small else PhantomSettings())
    write_patient(phantom, patient, second_run(phantom))
    job = RegisterJob(cta=patient / "cta.nii.gz", dsa=patient / "dsa.dcm", init=str(patient / "truth.tfm"))
    register_files(job, result, Progress())
    return patient, result


def measure(case: benchmarking.Case) -> benchmarking.Result:
    """Run one page."""
    page = ROOT / case["page"]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        patient, result = make_patient(scratch, case["small"])
        folder = scratch / "page"
        folder.mkdir()
        slow = not case["small"]
        provide(folder, patient, result, list(to_run(page, slow)))
        print(case["page"], flush=True)
        done = run_typed(page, folder, slow)
    slowest = max(done, key=lambda one: one[1], default=("", 0.0))
    total = sum(seconds for _, seconds in done)
    return {"commands": len(done), "seconds": total, "slowest": slowest[0], "slowest_s": slowest[1]}


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("docs", __doc__ or "", argv)
    pages = [
        page for page in PAGES if any(block.language in ("sh", "python") for block in to_run(page, not options.small))
    ]
    # A page is run again when it says something else.
    cases: list[benchmarking.Case] = [
        {
            "page": str(page.relative_to(ROOT)),
            "text": hashlib.sha256(page.read_bytes()).hexdigest()[:12],
            "small": options.small,
        }
        for page in pages
    ]
    records = benchmarking.run_cases("docs", cases, measure, {}, options)
    rows = [
        [
            record["case"]["page"],
            str(record["commands"]),
            f"{record['seconds'] / 60:.1f}",
            f"`{record['slowest'].split(' --')[0]}`" if record["slowest"] else "",
            f"{record['slowest_s'] / 60:.1f}",
        ]
        for record in records
    ]
    body = "\n\n".join(
        [
            f"{sum(record['commands'] for record in records)} commands of {len(records)} pages, each by itself on a synthetic "
            "patient, as a reader types it; all ended with exit code 0.",
            table(["page", "commands", "min", "slowest", "min"], rows),
            "Not run here: " + "; ".join(f"`{name}` ({why})" for name, why in NOT_RUN.items()) + "; and",
            "\n".join(
                f"- {block.page.relative_to(ROOT)}, line {block.line}: {block.reason}"
                for page in PAGES
                for block in blocks_of(page)
                if block.when == "elsewhere"
            ),
        ]
    )
    benchmarking.write_result("docs", "Commands of README and documentation", body, options, records)


if __name__ == "__main__":
    main()
