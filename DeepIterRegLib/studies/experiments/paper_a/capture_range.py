"""Capture range: from how far a registration still ends at the truth (A 4.7.2, Figure 12)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table
from DeepIterRegLib.studies.experiments.objects import Item, Study, subject, subject_name
from DeepIterRegLib.studies.experiments.paper_a.stages import (
    REFUSED,
    STAGES_PROTOCOL,
    STARTS_PROTOCOL,
    TEST_SET,
    descend,
    errors_of,
    our_settings,
    paper_stages,
    patient_starts,
    registered,
)
from DeepIterRegLib.studies.experiments.papers import PAPER_A

WAYS = {
    "optimisation": "optimisation only, the paper's (NCC, MI; Adam)",
    "second_order": "second-order refinement only (ours)",
    "network": "network + second order",
    "search": "search + second order (ours, vessels alone)",
    "auto": "auto (our default)",
}


def capture_items(study: Study, n: int) -> list[Item]:
    """Each way of each patient."""
    return [{"subject": who, "way": way} for who in study.subjects(n) for way in WAYS]


def capture_work(study: Study, item: Item) -> dict[str, Any]:
    """Every start of one patient, registered one way."""
    of = subject(study, item["subject"])
    starts = patient_starts(study, of, item)
    begin = time.perf_counter()
    if item["way"] == "optimisation":
        found = starts  # all at once: the paper's optimisation is batched over poses
        for stage in paper_stages(study.small):
            found = descend(study, of, stage, found).pose.numpy()
        after = errors_of(of, found)
    else:
        init = "radiological" if item["way"] == "second_order" else item["way"]  # the start stands in its place
        after = {"mm": [], "px": []}
        for start in starts:
            answer = registered(of, our_settings(study, init), start)
            for key, values in after.items():
                values.append(REFUSED if answer is None else errors_of(of, answer[None])[key][0])
    return {"before": errors_of(of, starts), "after": after, "seconds": time.perf_counter() - begin}


def capture_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 12: median after against before, in bins."""
    groups = {
        label: [(i, r) for i, r in done if i["way"] == way]
        for way, label in WAYS.items()
        if any(i["way"] == way for i, _ in done)
    }
    paper = {WAYS["optimisation"]: "20 px", WAYS["network"]: "40 px (with the paper's optimisation)"}
    reached = {"optimisation only": 20.0, "with network": 40.0}
    return summary_of_starts(groups, paper, reached, "way", "capture_range", "Capture range (A Fig. 12)")


# -- what the summaries of this experiment and of `anatomy` share -----------------------------------------


@dataclass(frozen=True)
class _Starts:
    """Errors (N,) of all starts of one group, before and after."""

    before_px: np.ndarray
    after_px: np.ndarray
    before_mm: np.ndarray
    after_mm: np.ndarray
    seconds: float

    @property
    def n(self) -> int:
        return len(self.after_px)

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool: those that were not refused."""
        return self.after_mm < REFUSED

    @property
    def good(self) -> int:
        return metrics.succeeded_below(self.after_mm)


def _starts(mine: list[Done]) -> _Starts:
    before_px, after_px, before_mm, after_mm = (
        np.concatenate([r[when][unit] for _, r in mine]) for unit in ("px", "mm") for when in ("before", "after")
    )
    return _Starts(before_px, after_px, before_mm, after_mm, sum(r["seconds"] for _, r in mine) / len(after_px))


def summary_of_starts(
    groups: Mapping[str, list[Done]],
    paper: Mapping[str, str],
    paper_px: Mapping[str, float],
    key: str,
    name: str,
    title: str,
) -> Summary:
    """Capture range, means and successes of groups of registrations from many starts.

    Parameters
    ----------
    groups
        Label to items and results, whose results have `before` and `after` as from `errors_of`.
    paper
        Label to what the paper found.
    paper_px
        The paper's capture ranges by name, for the plot.
    key
        What the groups differ in, as items name it.
    name, title
        Of the plot.
    """
    from DeepIterRegLib.studies.experiments import plots

    # Every start counts, refused ones as infinitely wrong; only means leave them out.
    starts = {label: _starts(mine) for label, mine in groups.items()}
    ranges = {label: metrics.capture_range(s.before_px, s.after_px) for label, s in starts.items()}
    table = [_line(label, starts[label], ranges[label]) for label in groups]
    comparison = [
        (label, paper.get(label, "-"), f"capture range {row[2]}; {row[3]} before, {row[4]} after; {row[5]} below 5 mm")
        for label, row in zip(groups, table, strict=True)
    ]
    bins = [
        [label, f"{b.low:.0f} to {b.high:.0f}", f"{b.median_after:.1f}", f"{b.band[0]:.1f} to {b.band[1]:.1f}", f"{100 * b.captured:.0f} %"]
        for label, found in ranges.items()
        for b in found.bins
    ]  # fmt: skip
    header = ["", "starts", "capture range", "mean MPE before", "mean after", "below 5 mm", "median after", "s a start"]
    note = (
        "Capture range: end of the last of 10 bins of equal count whose median after, and that of all before it, is below 5 px. "
        "Means leave out what was refused. Bands: bootstrap of the median, 95 %."
    )
    return Summary(
        comparison,
        [row for mine in groups.values() for item, result in mine for row in _rows(item, result, key)],
        {label: _figures(starts[label], ranges[label]) for label in groups},
        [
            Table("Sums", header, table, note),
            Table("Bins", ["", "MPE before, px", "median after, px", "95 % band", "below 5 px"], bins),
        ],
        {
            name: (title, plots.capture(ranges, metrics.CAPTURED_PX, paper_px)),
            f"{name}_success": ("Success by limit", plots.success({label: s.after_mm for label, s in starts.items()})),
        },
    )


def _line(label: str, starts: _Starts, found: metrics.CaptureRange) -> list[Any]:
    """Of the table, for people."""
    low, high = metrics.wilson(starts.good, starts.n)
    rate = f"{100 * starts.good / starts.n:.0f} %, {100 * low:.0f} to {100 * high:.0f}"
    after_px, after_mm = starts.after_px[starts.answered], starts.after_mm[starts.answered]
    return [
        label,
        starts.n,
        f"{found.reach:.0f} px",
        f"{starts.before_px.mean():.1f} px, {starts.before_mm.mean():.1f} mm",
        f"{after_px.mean():.1f} px, {after_mm.mean():.1f} mm",
        f"{starts.good} ({rate})",
        f"{np.median(starts.after_mm):.2f} mm",
        f"{starts.seconds:.1f}",
    ]


def _figures(starts: _Starts, found: metrics.CaptureRange) -> dict[str, Any]:
    """Of the JSON."""
    answered = starts.answered
    return {
        "n": starts.n,
        "reach_px": found.reach,
        "before_px": float(starts.before_px.mean()),
        "after_px": float(starts.after_px[answered].mean()) if answered.any() else None,
        "before_mm": float(starts.before_mm.mean()),
        "after_mm": float(starts.after_mm[answered].mean()) if answered.any() else None,
        "below_5_mm": starts.good,
        "median_mm": float(np.median(starts.after_mm)),
        "seconds_a_pose": starts.seconds,
    }


def _rows(item: Item, result: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Of the CSV: one for each start."""
    measured = [(when, unit) for when in ("before", "after") for unit in ("px", "mm")]
    return [
        {
            "patient": subject_name(item["subject"]),
            key: item[key],
            "start": n,
            **{f"{when}_{unit}": result[when][unit][n] for when, unit in measured},
        }
        for n in range(len(result["before"]["mm"]))
    ]


CAPTURE_RANGE = Experiment(
    "Capture range",
    PAPER_A,
    "Paper A, section 4.7.2 and Figure 12",
    STAGES_PROTOCOL
    + STARTS_PROTOCOL
    + " The search looks in a box about the start; the network is asked from the start.",
    "patients",
    TEST_SET,
    1,
    capture_items,
    capture_work,
    capture_summary,
)
