"""From the readers' answers to preferences, tests and agreement (A 4.9, Table 1)."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from DeepIterRegLib.common.shown import called_by
from DeepIterRegLib.studies.reader_study.ranks import EQUAL, SCALE, Ranked
from DeepIterRegLib.studies.reader_study.statistics import SignedRank, holm, signed_rank, weighted_kappa


@dataclass(frozen=True)
class PairResult:
    """Two methods compared. Scores are -2..2, positive where `first` was found better.

    Attributes
    ----------
    scores
        One for each patient: the mean over readers.
    wilcox, pratt
        The test with scores of 0 dropped before, or after, ranking.
    p_holm, p_exact_holm
        `wilcox.p` and `wilcox.p_exact` corrected for all pairs.
    """

    first: str
    second: str
    scores: tuple[float, ...]
    wilcox: SignedRank
    pratt: SignedRank
    p_holm: float
    p_exact_holm: float

    @property
    def name(self) -> str:
        """As in the JSON: "three-stage vs reference"."""
        return f"{self.first} vs {self.second}"

    def to_json_dict(self) -> dict[str, Any]:
        """`p` and the rest of the test with zeros dropped; the other one under `pratt`."""
        scores = np.array(self.scores)
        return {
            "first": self.first,
            "second": self.second,
            **asdict(self.wilcox),
            "p_holm": self.p_holm,
            "p_exact_holm": self.p_exact_holm,
            "n_first_better": int((scores > 0).sum()),
            "n_equal": int((scores == 0).sum()),
            "n_second_better": int((scores < 0).sum()),
            "mean_score": float(scores.mean()),
            "median_score": float(np.median(scores)),
            "pratt": asdict(self.pratt),
        }


@dataclass(frozen=True)
class Agreement:
    """Two readers on the `n` comparisons that both answered; a kappa is None where it is undefined.

    What is compared are the scores of a pair's first method, so that it does not matter on which side a reader saw it.
    """

    readers: tuple[str, str]
    n: int
    same_rank: float
    kappa_linear: float | None
    kappa_quadratic: float | None


@dataclass(frozen=True)
class Analysis:
    """Everything about a study's answers.

    Attributes
    ----------
    methods
        The most often preferred first; that gives the order within and among pairs.
    preferred
        Method to how many answers preferred it, most first; answers without preference under "=", last.
    rank_counts
        Pair to counts of the scores -2, -1, 0, 1, 2 of all readers' answers, for the pair's first method.
    by_reader
        Reader to the pairs of that reader alone.
    """

    readers: tuple[str, ...]
    patients: int
    comparisons: int
    methods: tuple[str, ...]
    preferred: dict[str, int]
    pairs: tuple[PairResult, ...]
    rank_counts: dict[str, tuple[int, ...]]
    by_reader: dict[str, tuple[PairResult, ...]]
    preferred_by_reader: dict[str, dict[str, int]]
    agreement: tuple[Agreement, ...]
    notes: tuple[str, ...]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values: `preferred`, `wilcoxon` (pair to p and the rest), agreement, the same for each reader."""
        return {
            "readers": list(self.readers),
            "patients": self.patients,
            "comparisons": self.comparisons,
            "scale": {str(rank): words for rank, words in SCALE.items()},
            "preferred": self.preferred,
            "wilcoxon": {pair.name: pair.to_json_dict() for pair in self.pairs},
            "agreement": [asdict(a) for a in self.agreement],
            "by_reader": {
                reader: {
                    "preferred": self.preferred_by_reader[reader],
                    "wilcoxon": {pair.name: pair.to_json_dict() for pair in pairs},
                }
                for reader, pairs in self.by_reader.items()
            },
            "notes": list(self.notes),
        }


FEW = 10  # scores other than 0 below which the normal approximation is rough

Question = tuple[str, str, str, int]  # patient, the pair's first and second method, which time this reader was asked


def analyse(answers: Sequence[Ranked]) -> Analysis:
    """Count and test.

    An answer gives the preferred method one point, rank 3 gives it to "=" (so A's Table 1). What the test sees is one score
    for each patient and pair: -2..2, the mean over the readers who answered, because readers of one patient are not
    independent. A reader asked twice about the same patient and pair (two runs of one patient) gives two scores.

    Parameters
    ----------
    answers
        At least one, from `ranks.read_ranks`.
    """
    names = {name for a in answers for name in (a.left, a.right)}
    points = Counter(a.preferred for a in answers)
    methods = tuple(sorted(names, key=lambda name: (-points[name], name)))
    readers = tuple(sorted({a.reader for a in answers}))
    asked = {reader: _scores([a for a in answers if a.reader == reader], methods) for reader in readers}
    notes = [
        f"Reader {reader} answered about {first} and {second} of patient {called_by(patient)} more than once: each answer counts."
        for reader, scores in asked.items()
        for patient, first, second, time in scores
        if time == 1
    ]
    pairs = _tested(list(asked.values()), methods)
    notes += [
        f"{pair.name}: only {pair.wilcox.n_nonzero} scores differ from 0, for which the normal approximation is rough: "
        "go by the exact p."
        for pair in pairs
        if 0 < pair.wilcox.n_nonzero < FEW
    ]
    # All readers' answers, not means over them: what is drawn is how each was given.
    counts = {}
    for first, second in itertools.combinations(methods, 2):
        found = Counter(a.score_for(first) for a in answers if {a.left, a.right} == {first, second})
        if found:
            counts[f"{first} vs {second}"] = tuple(found[score] for score in (-2, -1, 0, 1, 2))
    return Analysis(
        readers=readers,
        patients=len({a.patient for a in answers}),
        comparisons=len(answers),
        methods=methods,
        preferred=_preferred(answers, methods),
        pairs=pairs,
        rank_counts=counts,
        by_reader={reader: _tested([scores], methods) for reader, scores in asked.items()},
        preferred_by_reader={
            reader: _preferred([a for a in answers if a.reader == reader], methods) for reader in readers
        },
        agreement=tuple(_agreement(a, b, asked[a], asked[b]) for a, b in itertools.combinations(readers, 2)),
        notes=tuple(notes),
    )


def _preferred(answers: Sequence[Ranked], methods: Sequence[str]) -> dict[str, int]:
    points = Counter(a.preferred for a in answers)
    return {name: points[name] for name in (*methods, EQUAL)}


def _scores(answers: Sequence[Ranked], methods: Sequence[str]) -> dict[Question, int]:
    """One reader's scores, each for the method that comes first in `methods`."""
    scores: dict[Question, int] = {}
    for answer in answers:
        first, second = sorted((answer.left, answer.right), key=methods.index)
        time = 0
        while (question := (answer.patient, first, second, time)) in scores:
            time += 1
        scores[question] = answer.score_for(first)
    return scores


def _tested(asked: Sequence[dict[Question, int]], methods: Sequence[str]) -> tuple[PairResult, ...]:
    """Every pair that was compared, in the order of `methods`."""
    by_question: dict[Question, list[int]] = defaultdict(list)
    for scores in asked:
        for question, score in scores.items():
            by_question[question].append(score)
    by_pair: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (_, first, second, _), given in by_question.items():
        by_pair[first, second].append(sum(given) / len(given))
    # Corrected for the pairs that were compared, not for all that could have been.
    pairs = [pair for pair in itertools.combinations(methods, 2) if pair in by_pair]
    wilcox = [signed_rank(by_pair[pair], "wilcox") for pair in pairs]
    corrected, exact_corrected = holm([w.p for w in wilcox]), holm([w.p_exact for w in wilcox])
    return tuple(
        PairResult(*pair, tuple(by_pair[pair]), test, signed_rank(by_pair[pair], "pratt"), p, exact)
        for pair, test, p, exact in zip(pairs, wilcox, corrected, exact_corrected, strict=True)
    )


def _agreement(a: str, b: str, of_a: dict[Question, int], of_b: dict[Question, int]) -> Agreement:
    both = sorted(of_a.keys() & of_b.keys())
    first, second = [of_a[q] + 2 for q in both], [of_b[q] + 2 for q in both]
    same = sum(x == y for x, y in zip(first, second, strict=True)) / max(1, len(both))
    linear, quadratic = (weighted_kappa(first, second, len(SCALE), power) for power in (1, 2))
    return Agreement((a, b), len(both), same, linear, quadratic)
