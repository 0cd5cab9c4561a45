"""Inputs as hospitals and damaged disks hand them over, of a full-size phantom, typed at the command line: does each end rightly?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import benchmarking
from benchmarking import CACHE, ROOT, Case, Result, table

sys.path.insert(0, str(ROOT / "Testing" / "Python"))

SEED = 7
MOST_MM = 5.0  # MPE of a registration that is right
EXIT_INPUT = 2
SHOWN = 240  # characters of what was said, in the table


def patient(small: bool) -> Path:
    """Folder of the phantom; made once."""
    import end_to_end

    if small:
        return end_to_end.patient("small", fresh=False)[0]
    folder = CACHE / f"awkward-patient-{SEED}"
    if not (folder / "truth.tfm").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _deepiterreg(["phantom", "--seed", str(SEED), "--out", str(folder), "--quiet"], ROOT)
    return folder


@cache
def plain(folder: Path) -> Any:
    """The patient's files, every voxel of them."""
    from awkward_inputs import Plain

    return Plain(folder)


def command_of(door: str, typed: Sequence[str], folder: Path) -> list[str]:
    """What a person types, with the input in its place and the patient's plain files in the others."""
    cta, dsa, truth = (str(folder / name) for name in ("cta.nii.gz", "dsa.dcm", "truth.tfm"))
    if door == "item":
        return ["project", "--pose", truth, "--like", dsa, "--item", f"{typed[0]}:red", "--out", "result.png"]
    images = {"cta": [typed[0], dsa], "dsa": [cta, *typed]}.get(door, [cta, dsa])
    options = {
        "cta_mask": ["--cta-mask", typed[0]],
        "pose": ["--init", typed[0]],
        "landmarks": ["--landmarks", typed[0], *(["--dsa-landmarks", typed[1]] if len(typed) > 1 else [])],
    }.get(door, [])
    return ["register", *images, *options, "--reference", truth, "--out", "result", "--json", "--quiet"]


def _deepiterreg(arguments: Sequence[str], where: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in a folder."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    command = [sys.executable, "-m", "DeepIterRegLib.cli", *arguments]
    return subprocess.run(command, cwd=where, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)


def run_case(case: Case) -> Result:
    """One input made, typed and judged."""
    from awkward_inputs import CASES, leaks

    (awkward,) = (one for one in CASES if one.name == case["name"])
    folder = patient(case.get("small", False))
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        before = Path.cwd()
        os.chdir(where)  # a person types paths from where they are
        try:
            typed, _ = awkward.write(plain(folder), Path("given"))
        finally:
            os.chdir(before)
        done = _deepiterreg(command_of(awkward.door, typed, folder), where)
        left = sorted(path.name for path in where.iterdir() if path.name != "given")
    got = "ok" if done.returncode == 0 else "refused" if done.returncode == EXIT_INPUT else f"exit {done.returncode}"
    answer = json.loads(done.stdout) if got == "ok" else {}
    mpe_mm = answer.get("mpe_mm_to_reference")
    said = answer.get("warnings") or [
        line for line in done.stderr.splitlines() if line.startswith(("Error: ", "Note: "))
    ]
    problems = []
    if (got == "refused") != (awkward.outcome == "refused") or got.startswith("exit"):
        problems.append(f"ended with {got}")
    if awkward.says and not any(re.search(awkward.says, sentence) for sentence in said):
        problems.append("not said")
    if mpe_mm is not None and awkward.pose and not mpe_mm < MOST_MM:
        problems.append("a wrong pose")
    if got != "ok" and (left or "Traceback" in done.stderr):
        problems.append("something is left, or a traceback")
    if leaks(done.stdout + done.stderr) or str(where) in done.stdout + done.stderr:
        problems.append("quotes the patient, the header or a folder")
    fitting = [sentence for sentence in said if awkward.says and re.search(awkward.says, sentence)]
    return {
        "door": awkward.door,
        "wanted": awkward.outcome,
        "got": "said" if got == "ok" and fitting else got,
        **({} if mpe_mm is None else {"mpe_mm": mpe_mm}),
        "said": " ".join((fitting or said or [done.stderr[-SHOWN:]])[:1]),
        "problems": problems,
    }


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("awkward", __doc__ or "", argv, jobs=min(benchmarking.cores(), 2))
    from awkward_inputs import CASES

    patient(options.small)  # before several processes would make it
    cases: list[Case] = [{"name": one.name, **({"small": True} if options.small else {})} for one in CASES]
    records = benchmarking.run_cases("awkward", cases, run_case, {"seed": SEED}, options)
    right = [record for record in records if not record["problems"]]
    body = "\n\n".join(
        [
            f"Each made from the files of phantom {SEED}, and typed at the command line in the place that the column says: as CTA, "
            "DSA, mask of the CTA, landmarks or start of `register`, or as item of `project`. `ok`: a pose as from the plain files "
            f"(MPE below {MOST_MM:g} mm to the truth); `said`: the same, and a note that says what was odd; `refused`: exit code "
            f"{EXIT_INPUT}, sentences, nothing written. No output may hold the patient's name, number or date of birth, more than 16 "
            "characters of a header's text, or the user's folder.",
            f"**{len(right)} of {len(records)} end as they should** (all: {benchmarking.verdict(len(right) == len(records))}).",
            rows_of(records),
        ]
    )
    benchmarking.write_result("awkward", f"Awkward inputs: {len(records)} cases", body, options, records)


def rows_of(records: list[dict[str, Any]]) -> str:
    """A row a case, those that end otherwise marked."""
    rows = []
    for record in records:
        said = re.sub(r"\s+", " ", record["said"]).replace("|", "/").removeprefix("Error: ")
        problems = "".join(f" **{problem}**" for problem in record["problems"])
        rows.append(
            [
                record["case"]["name"].replace("_", " "),
                record["door"],
                record["wanted"],
                record["got"] + problems,
                f"{record['mpe_mm']:.2f}" if "mpe_mm" in record else "",
                said[:SHOWN] + ("..." if len(said) > SHOWN else ""),
            ]
        )
    return table(["case", "used as", "wanted", "got", "MPE mm", "what was said"], rows)


if __name__ == "__main__":
    main()
