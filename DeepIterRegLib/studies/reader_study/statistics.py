"""Statistics of paired, ordinal answers: Wilcoxon signed-rank, Holm, weighted kappa."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

ZeroTreatment = Literal["wilcox", "pratt"]


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of differences against 0, two-sided.

    Attributes
    ----------
    n, n_nonzero
        Differences, and those that are not 0.
    w_plus, w_minus
        Sums of the ranks of positive and of negative differences; equal sizes share the mean of their ranks.
    z, p
        Normal approximation, variance corrected for ties, no continuity correction (what paper A's p is). z is positive where
        positive differences prevail. p is 1 where all differences are 0.
    p_exact
        From all 2^n_nonzero signs, given the ranks; also with ties.
    rank_biserial
        Matched pairs: (w_plus - w_minus) / (w_plus + w_minus), -1..1.
    r
        z / sqrt(n), n being the differences that the treatment keeps: without zeros ("wilcox"), with them ("pratt").
    """

    n: int
    n_nonzero: int
    w_plus: float
    w_minus: float
    z: float
    p: float
    p_exact: float
    rank_biserial: float
    r: float


def signed_rank(differences: Sequence[float], zeros: ZeroTreatment) -> SignedRank:
    """Test differences; `zeros` are dropped before ranking ("wilcox") or after it ("pratt")."""
    d = np.asarray(differences, dtype=np.float64)
    n, nonzero = d.size, int(np.count_nonzero(d))
    if nonzero == 0:
        return SignedRank(n, 0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    if zeros == "wilcox":
        d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    plus, minus = float(ranks[d > 0].sum()), float(ranks[d < 0].sum())
    test = stats.wilcoxon(d, zero_method=zeros, correction=False, method="approx")
    z = math.copysign(abs(float(test.zstatistic)), plus - minus)
    exact = _exact(ranks[d != 0], min(plus, minus))
    return SignedRank(
        n, nonzero, plus, minus, z, float(test.pvalue), exact, (plus - minus) / (plus + minus), z / math.sqrt(d.size)
    )


def _exact(ranks: np.ndarray, smaller: float) -> float:
    """Two-sided p of a smaller rank sum under random signs: how many of the 2^n sums are as far out, counted by convolution.

    Mean ranks are multiples of a half, so doubled ranks are whole.
    """
    doubled = np.rint(2 * ranks).astype(int)
    # chances[s]: that the ranks so far add up to s, each taking part or not with one chance in two.
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(chances)
        moved[rank:] = chances[: chances.size - rank]
        chances = (chances + moved) / 2
    return min(1.0, 2 * float(chances[: round(2 * smaller) + 1].sum()))


def holm(p: Sequence[float]) -> list[float]:
    """P values corrected for how many they are (Holm's step-down), in the order given."""
    corrected = [1.0] * len(p)
    most = 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        most = max(most, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = most
    return corrected


def weighted_kappa(first: Sequence[int], second: Sequence[int], categories: int, power: int) -> float | None:
    """Cohen's weighted kappa of two readers' answers 0..categories-1 to the same questions.

    Disagreement weighs |i - j| ** power: 1 linear, 2 quadratic. None where chance alone would give no disagreement
    (both always gave one and the same answer), or there is no answer.
    """
    counts = np.zeros((categories, categories))
    np.add.at(counts, (np.asarray(first, dtype=int), np.asarray(second, dtype=int)), 1)
    steps = np.arange(categories)
    weights = np.abs(steps[:, None] - steps[None, :]).astype(float) ** power
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(1.0, counts.sum())
    by_chance = float((weights * expected).sum())
    return None if by_chance == 0 else 1 - float((weights * counts).sum()) / by_chance
