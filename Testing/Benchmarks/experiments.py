"""All experiments of both papers at their published size, into results/experiments; interrupted, it goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarking import commit, table
from PIL import Image

from DeepIterRegLib.studies.experiments.papers import PAPER_A, PAPER_B

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results" / "experiments"
COLOURS = 256  # of a plot that is kept: a third of its size
ORDER = (
    "drr-time",
    "landscape",
    "pose-statistics",
    "optimisers",
    "losses",
    "pipeline",
    "anatomy",
    "capture-range",
    "monte-carlo",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=ORDER, default=list(ORDER))
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "experiments", help="folder of records and pages")
    parser.add_argument("--page", action="store_true", help="run nothing, only write the page of what is there")
    known, passed = parser.parse_known_args()
    # A small trial's figures mean nothing: they never replace the published ones.
    results = known.work / "page" if "--small" in passed else RESULTS
    if known.page:
        print(f"Written: {write_page(results)}")
        return 0
    failed = []
    for name in known.only:
        command = [
            sys.executable,
            "-m",
            "DeepIterRegLib.cli",
            "experiment",
            name,
            "--out",
            str(known.work / name),
            *passed,
        ]
        at = commit()
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
            continue
        target = results / name
        target.mkdir(parents=True, exist_ok=True)
        # The rest, records and tables of every pose, stays in the work folder.
        shutil.copy(known.work / name / "summary.json", target)
        for picture in (known.work / name).glob("*.png"):
            keep_picture(picture, target / picture.name)
        values = json.loads((target / "summary.json").read_text(encoding="utf-8"))
        text = json.dumps({**values, "commit": at}, indent=2, allow_nan=False)
        (target / "summary.json").write_text(text + "\n", encoding="utf-8")
        write_page(results)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return len(failed)


def keep_picture(picture: Path, to: Path) -> None:
    """The plot with a palette, in place of whatever `to` holds.

    By the widest spread of colours: no channel of a pixel changes by more than 14 of 255 in any plot on record. Pillow's usual
    way takes the most frequent ones, and thin lines of two colours become one.
    """
    with Image.open(picture) as image:
        plain = image.convert("RGB")
    plain.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(to, optimize=True)


def write_page(results: Path) -> Path:
    """README.md of a folder of results: each experiment that has a summary there, in the order of `ORDER`."""
    found = [name for name in ORDER if (results / name / "summary.json").exists()]
    missing = [name for name in ORDER if name not in found]
    parts = [
        "# Experiments of both papers",
        "Written by `python Testing/Benchmarks/experiments.py --page`, from each `summary.json`.",
        f"- {PAPER_A}\n- {PAPER_B}",
    ]
    if missing:
        parts.append(f"Nothing on record yet of {', '.join(f'`{name}`' for name in missing)}.")
    parts += [_section(results / name) for name in found]
    page = results / "README.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return page


def _section(folder: Path) -> str:
    """What the paper reports and what came out here, where and when it was measured, and the pictures."""
    values: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows = [[_cell(row[column]) for column in ("measure", "paper", "here")] for row in values["comparison"]]
    versions = ", ".join(f"{package} {number}" for package, number in values["versions"].items())
    parts = [
        f"## {values['title']}",
        f"{values['source']}; `deepiterreg experiment {values['experiment']}`: {values['n']} {values['unit']}, "
        f"{values['subjects']}, seed {values['seed']}.",
        table(["", "paper", "here"], rows),
        f"{values['date']}; {values['machine']}; {versions}; commit {values.get('commit', 'not recorded')}. "
        f"[All figures]({folder.name}/summary.json).",
    ]
    if values["small"]:
        parts.insert(1, "**Small trial: these figures mean nothing.**")
    if values["problems"]:
        parts.append("Left out:\n\n" + "\n".join(f"- {problem}" for problem in values["problems"]))
    pictures = sorted(folder.glob("*.png"))
    parts += [f"![{picture.stem.replace('_', ' ')}]({folder.name}/{picture.name})" for picture in pictures]
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
