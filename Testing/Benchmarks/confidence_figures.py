"""What is told of a confidence: how well it tells right from wrong, its states by kind of registration, its reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmarking import verdict
from cohort import STRANGER_MM
from outcomes import wilson

from DeepIterRegLib.geometry.mpe import SUCCESS_MM

RATIO, COVERAGE_OFF = (0.85, 1.15), 0.05  # the targets of the announced error
MAX_WRONG, MIN_RIGHT, MIN_AUC, MAX_ECE = 0.01, 0.90, 0.97, 0.03

ANNOUNCED = ["measured / expected", "in 68 %", "in 95 %", "depth 68 %", "depth 95 %", "within 5 points"]

TARGETS: dict[str, tuple[str, str, Callable[[float], bool]]] = {
    "auc": ("area under the ROC", f"{MIN_AUC}", lambda v: v >= MIN_AUC),
    "accepted_wrong": ("wrong among the accepted", f"{100 * MAX_WRONG:g} %", lambda v: v <= MAX_WRONG),
    "right_accepted": ("accepted among the right", f"{100 * MIN_RIGHT:g} %", lambda v: v >= MIN_RIGHT),
    "calibration_error": ("expected calibration error", f"{MAX_ECE}", lambda v: v <= MAX_ECE),
}


def announced_cells(ratio: float, within: Sequence[float], along: Sequence[float]) -> list[str]:
    """`ANNOUNCED` of a group: measured over expected, and the shares in the intervals of 68 and 95 %; along the beam there may be none."""
    shares = [*within, *along]
    ok = all(abs(share - asked) <= COVERAGE_OFF for share, asked in zip(shares, (0.68, 0.95) * 2, strict=False))
    shown = [f"{100 * share:.0f} %" for share in shares]
    return [f"{ratio:.2f} {verdict(RATIO[0] <= ratio <= RATIO[1])}", *shown, *["-"] * (4 - len(shown)), verdict(ok)]


def auc(p: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve; not-a-number if only one outcome occurs."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, p)) if 0 < y.sum() < len(y) else math.nan


def bins(p: np.ndarray, y: np.ndarray, count: int = 10) -> list[tuple[float, float, int]]:
    """Mean probability, share right and number, of bins of equal count."""
    parts = np.array_split(np.argsort(p, kind="stable"), count)
    return [(float(p[i].mean()), float(y[i].mean()), len(i)) for i in parts if len(i)]


def calibration_error(p: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal count."""
    return sum(n * abs(a - b) for a, b, n in bins(p, y)) / len(y)


def accepted(p: np.ndarray, y: np.ndarray, limit: float) -> tuple[float, float]:
    """Share wrong among the accepted, share accepted among the right."""
    chosen = p >= limit
    return float((~y[chosen]).mean()) if chosen.any() else 0.0, float(chosen[y].mean()) if y.any() else math.nan


def figures(p: np.ndarray, y: np.ndarray, limit: float) -> dict[str, float]:
    """All that is asked for."""
    wrong, right = accepted(p, y, limit)
    return {
        "auc": auc(p, y),
        "accepted_wrong": wrong,
        "right_accepted": right,
        "calibration_error": calibration_error(p, y),
        "brier": float(np.mean((p - y) ** 2)),
    }


def wrong_of_accepted(p: np.ndarray, y: np.ndarray, accept: float) -> str:
    """How many of the accepted are wrong, with its interval."""
    chosen = p >= accept
    wrong = int((chosen & ~y).sum())
    low, high = wilson(wrong, int(chosen.sum()))
    return f"Of {int(chosen.sum())} accepted {wrong} are wrong: 95 % interval {max(low, 0):.1%} to {high:.1%}."


def by_kind(p: np.ndarray, y: np.ndarray, kinds: np.ndarray, accept: float, reject: float) -> list[list[str]]:
    """Of each kind how many are right, and right / wrong in each state."""
    states = (p >= accept, (p < accept) & (p >= reject), p < reject)
    return [
        [
            kind,
            f"{int(y[k].sum())} of {int(k.sum())}",
            *(f"{int((s & k & y).sum())} / {int((s & k & ~y).sum())}" for s in states),
        ]
        for kind in np.unique(kinds)
        for k in (kinds == kind,)
    ]


def plot(
    p: np.ndarray,
    y: np.ndarray,
    error_mm: np.ndarray,
    expected_mm: np.ndarray,
    accept: float,
    reject: float,
    path: Path,
) -> None:
    """Reliability, probabilities by outcome, expected against true error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    points = bins(p, y)
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    for mean, share, n in points:
        spread = math.sqrt(max(share * (1 - share), 1 / n) / n)
        left.errorbar(mean, share, yerr=1.96 * spread, fmt="o", color="#1f77b4", ms=5)
    left.set(
        xlabel="probability said",
        ylabel="share with MPE < 5 mm",
        xlim=(-0.02, 1.02),
        ylim=(-0.05, 1.05),
        title=f"Reliability, left-out patients\n{len(y)} registrations, calibration error {calibration_error(p, y):.3f}",
    )
    edges = np.linspace(0, 1, 26)
    middle.hist([p[~y], p[y]], bins=edges, stacked=True, color=["#d62728", "#2ca02c"], label=["wrong", "right"])
    for limit, name in ((accept, "accepted"), (reject, "rejected")):
        middle.axvline(limit, color="0.3", lw=1, ls="--")
        middle.text(
            limit,
            middle.get_ylim()[1] * 0.98,
            f" {name} ",
            rotation=90,
            va="top",
            ha="right" if name == "rejected" else "left",
            fontsize=8,
        )
    middle.set(
        xlabel="probability said",
        ylabel="registrations",
        yscale="log",
        title=f"By outcome, area under ROC {auc(p, y):.3f}",
    )
    middle.legend(loc="upper center")
    capped = np.clip(error_mm, 0.2, STRANGER_MM)
    right.loglog(expected_mm[y], capped[y], "o", ms=3, color="#2ca02c", alpha=0.6)
    right.loglog(expected_mm[~y], capped[~y], "o", ms=3, color="#d62728", alpha=0.6)
    right.plot([0.2, 60], [0.2, 60], color="0.7", lw=1)
    right.axhline(SUCCESS_MM, color="0.7", lw=1, ls=":")
    right.set(xlabel="expected error, mm", ylabel="true error, mm (wrong patient: 60)", title="Expected and true error")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)
