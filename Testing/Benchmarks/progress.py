"""How well the progress bar keeps time: how far it is off and how long it stands still, from every start, with one view and two."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table, verdict
from end_to_end import patient

from DeepIterRegLib.common.progress import Progress

HEADER = [
    "start",
    "views",
    "processes",
    "s, first",
    "s, later",
    "off, first",
    "off, later",
    "still, first",
    "still, later",
]
TARGET_OFF, TARGET_STILL = 0.15, 0.2
# Of each row but the paper's, which take minutes: where a registration takes five seconds, half a second that the machine gives to
# somebody else is a tenth of it.
REPEATS = 3
NOISE = 2.0  # in the mask frame, in its own standard deviations
PAPER_ITERATIONS = 40  # of each stage, in place of 2000
# What is chosen, and what the mask frames show.
STARTS = {
    "auto": {},
    "auto, run came subtracted": {"mask_frame": "nothing"},
    "search": {"init": "search"},
    "network": {"init": "network"},
    "skull": {"init": "skull"},
    "radiological": {"init": "radiological"},
    "file": {"init": "FILE"},
    "landmarks": {"landmarks": True},
    f"paper, from a file ({PAPER_ITERATIONS} iterations a stage)": {"preset": "paper", "init": "FILE"},
    # Which of two ways it will go is not known until the skull was looked for.
    "auto, skull not clear": {"mask_frame": "noise"},
    "skull, not clear": {"init": "skull", "mask_frame": "noise"},
}
DEMO = "the command demo"
RUNS = ("first", "again")
UNFORESEEN = ("auto, skull not clear", "skull, not clear")


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("progress", __doc__ or "", argv)
    folder, sizes = patient("small" if options.small else "demo", options.fresh)
    cases: list[Case] = [{"start": start, "views": views} for start in STARTS for views in (1, 2)]
    cases = [{"start": DEMO, "views": 1}, *cases]
    cases += [
        {**case, "repeat": repeat}
        for repeat in range(2, REPEATS + 1)
        for case in cases
        if not str(case["start"]).startswith("paper")
    ]
    if options.small:
        cases = [case for case in cases if case["start"] == "file" and case["views"] == 1][:1]
    measured = benchmarking.run_cases(
        "progress",
        cases,
        partial(measure, str(folder)),
        {"small": options.small, "iterations": PAPER_ITERATIONS},
        options,
    )
    _write(options, measured, sizes)


def measure(folder: str, case: Case) -> Result:
    """Twice in a process of its own: at first what it needs is read and made, which a later one finds."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        first, again = (pool.submit(timed, folder, case["start"], case["views"]).result() for _ in range(2))
    return {"first": first, "again": again, "off": max(first["off"], again["off"])}


def timed(folder: str, start: str, views: int) -> dict[str, float]:
    """Seconds of one job, and how its bar kept time."""
    moments: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as out:
        run = demo(Path(out)) if start == DEMO else registration(Path(folder), start, views, Path(out))
        begin = time.perf_counter()
        run(Progress(lambda event: moments.append((time.perf_counter() - begin, event.overall))))
        seconds = time.perf_counter() - begin
    times, bar = (np.array(column) for column in zip(*moments, strict=True))
    return {
        "seconds": seconds,
        "end": float(bar[-1]),
        "back": max(0.0, float(-np.diff(bar).min())),
        **judged(times / seconds, bar),
    }


def judged(times: np.ndarray, bar: np.ndarray) -> dict[str, float]:
    """How far the bar is off, before and after each of its moves, and the longest time in which its whole percents stay the same.

    Parameters
    ----------
    times, bar : (n,)
        When it was told, as parts of the whole time, and the fraction that it was told.
    """
    before = np.concatenate([[0.0], bar[:-1]])
    ends = np.append(times, 1.0)
    off = max(np.abs(before - times).max(), np.abs(bar - times).max(), abs(bar[-1] - 1.0))
    percents = np.floor(100 * np.concatenate([[0.0], bar]))
    moved = np.flatnonzero(np.diff(percents)) if len(bar) else []
    marks = np.concatenate([[0.0], ends[moved], [1.0]])
    return {"off": float(off), "still": float(np.diff(marks).max())}


def demo(out: Path) -> Callable[[Progress], Any]:
    """`deepiterreg demo`."""
    from DeepIterRegLib.cases.demo import run_demo

    return lambda progress: run_demo(1, "auto", out, progress)


def registration(folder: Path, start: str, views: int, out: Path) -> Callable[[Progress], Any]:
    """`cases.files.register_files`, with other mask frames where the start wants them."""
    from DeepIterRegLib.cases.case import register_case
    from DeepIterRegLib.cases.files import RegisterJob, case_of_files
    from DeepIterRegLib.common.options import Run
    from DeepIterRegLib.registration import settings
    from DeepIterRegLib.registration.steps import Step, expected
    from DeepIterRegLib.results.report.outputs import write_registration

    chosen: dict[str, Any] = STARTS[start]
    init = chosen.get("init")
    job = RegisterJob(
        cta=folder / "cta.nii.gz",
        dsa=folder / "dsa.dcm",
        init=str(folder / "truth.tfm") if init == "FILE" else init,
        preset=chosen.get("preset", "default"),
        landmarks=landmarks(folder, out) if chosen.get("landmarks") else None,
        further=(Run(dsa=folder / "dsa2.dcm"),) if views == 2 else (),
        head_centre=at_isocentre(folder) if init == "radiological" else None,
    )
    settings.PAPER_A_STAGE_1 = replace(settings.PAPER_A_STAGE_1, iterations=PAPER_ITERATIONS)
    settings.PAPER_A_STAGE_2 = replace(settings.PAPER_A_STAGE_2, iterations=PAPER_ITERATIONS)
    case, show = case_of_files(job), chosen.get("mask_frame")
    if show:
        further = tuple(replace(view, angiogram=with_mask_frame(view.angiogram, show)) for view in case.further)
        case = replace(case, angiogram=with_mask_frame(case.angiogram, show), further=further)

    def run(progress: Progress) -> None:
        progress.expect(expected(Step.WRITE_REPORT, views=views))
        outcome = register_case(case, progress)
        tell = progress.of(Step.WRITE_REPORT)
        tell(0.0)
        write_registration(out, outcome.registration, outcome.angiograms, outcome.vessels, tell)

    return run


def with_mask_frame(read: Callable[..., Any], show: str) -> Callable[..., Any]:
    """A run with noise in its mask frame, so that the skull is found but not clear; or without one."""

    def changed(on_progress: Callable[[float], None] | None = None) -> Any:
        run = read(on_progress=on_progress)
        frame = run.unsubtracted
        noise = NOISE * frame[run.valid].std() * np.random.default_rng(0).normal(size=frame.shape).astype(frame.dtype)
        return replace(run, unsubtracted=frame + noise if show == "noise" else None)

    return changed


def at_isocentre(folder: Path) -> tuple[float, float, float]:
    """The point of the CTA that stood at the isocentre: nothing is searched from the radiological pose, so it must lie near."""
    from DeepIterRegLib.geometry.pose import inverse
    from DeepIterRegLib.geometry.pose_files import read_pose

    r, a, s = inverse(read_pose(folder / "truth.tfm"))[:3, 3]
    return float(r), float(a), float(s)


def landmarks(folder: Path, out: Path) -> Path:
    """A table of eight points about the head and where the truth puts them on the DSA."""
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume

    carm, path = read_angiogram(folder / "dsa.dcm").carm, out / "points.csv"
    points = load_volume(folder / "cta.nii.gz").centre_mm + np.random.default_rng(2).uniform(-50, 50, (8, 3))
    rows = np.c_[points, carm.project(points, read_pose(folder / "truth.tfm"))]
    lines = [f"P{n},{','.join(f'{value:.4f}' for value in row)}" for n, row in enumerate(rows)]
    path.write_text("\n".join(["name,x,y,z,column,row", *lines]), encoding="utf-8")
    return path


def _write(options: benchmarking.Options, measured: list[dict[str, Any]], sizes: str) -> None:
    rows = _rows(measured)

    def worst(kind: str, chosen: list[dict[str, Any]], of: Callable[[list[float]], float] = median) -> float:
        return max((of(row[run][kind]) for row in chosen for run in RUNS), default=0.0)

    foreseen = [row for row in rows if row["start"] not in UNFORESEEN]
    others = [row for row in rows if row["start"] in UNFORESEEN]
    off, still, back = worst("off", foreseen), worst("still", rows), worst("back", rows, max)
    ends = {end for row in rows for run in RUNS for end in row[run]["end"]}
    targets = [
        ["bar goes back", f"{back:.3f}", "0", verdict(back <= 0)],
        ["bar at the end", f"{min(ends):.3f}", "1", verdict(ends == {1.0})],
        ["longest standstill, every start", f"{still:.2f}", f"{TARGET_STILL:.2f}", verdict(still <= TARGET_STILL)],
        ["furthest from the time passed", f"{off:.2f}", f"{TARGET_OFF:.2f}", verdict(off <= TARGET_OFF)],
        [
            "the same, skull not clear",
            f"{worst('off', others):.2f}" if others else "",
            f"{TARGET_OFF:.2f}",
            verdict(worst("off", others) <= TARGET_OFF) if others else "not measured",
        ],
    ]
    told = [
        [
            row["start"],
            row["views"],
            row["runs"],
            *(f"{median(row[run]['seconds']):.1f}" for run in RUNS),
            *(_with_largest(row[run][kind]) for kind in ("off", "still") for run in RUNS),
        ]
        for row in rows
    ]
    single = [value for row in foreseen for run in RUNS for value in row[run]["off"]]
    within = sum(value <= TARGET_OFF for value in single)
    body = "\n".join(
        [
            f"Demo's patient: CTA {sizes} (frames x rows x columns), from files to the report. Each twice in a process of its "
            "own: the first reads and makes what the later one finds (network, compiled code). Medians of several such processes, in "
            "brackets the largest; targets are of the medians, as others work on the machine too.",
            "",
            table(["", "measured", "target", ""], targets),
            "",
            f"Of all {len(single)} single registrations, without those whose skull is not clear, {within} are within {TARGET_OFF:.2f}.",
            "",
            table(HEADER, told),
            "",
            "Off: the largest difference between the bar and the part of the time that has passed, before and after each of "
            "its moves. Still: the longest part of the time in which its whole percents stay the same.",
            "",
            "Skull not clear (noise in the mask frames): whether a second look and the search follow is known only after "
            "the first look. At that moment three quarters of the time are over if it is clear, and one third if it is not, so "
            "that with `auto` no bar can be within 0.15 of both. Ours leans to what is usual: of 149 views of development "
            "phantoms 141 were clear.",
        ]
    )
    benchmarking.write_result("progress", "Progress: how well the bar keeps time", body, options, measured)


def _rows(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One for each start and number of views: of the first and the later runs every figure of all repeats."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for record in measured:
        start, views = record["case"]["start"], record["case"]["views"]
        row = rows.setdefault((start, views), {"start": start, "views": views, "runs": 0, **{run: {} for run in RUNS}})
        row["runs"] += 1
        for run in RUNS:
            for kind, value in record[run].items():
                row[run].setdefault(kind, []).append(value)
    return list(rows.values())


def _with_largest(values: list[float]) -> str:
    return f"{median(values):.2f}" if len(values) == 1 else f"{median(values):.2f} ({max(values):.2f})"


if __name__ == "__main__":
    main()
