"""Trains and calibrates the confidence on the cases of confidence_cases.py, compares two kinds of model, draws reliability."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import table, verdict
from confidence_cases import STANDARD_SEEDS
from scipy import optimize

from DeepIterRegLib.confidence.assess import REASONS
from DeepIterRegLib.confidence.model import SHIPPED, ConfidenceModel, Linear, save_model
from DeepIterRegLib.geometry.mpe import SUCCESS_MM

FOLDS = 5
SHIPS = "logistic regression"
WORST_MM = 60.0  # what a wrong patient's "error" counts as
MOST_WRONG, LEAST_RIGHT, LEAST_AUC, MOST_ECE = 0.01, 0.90, 0.97, 0.03

# On which side each feature is good: a model that took the opposite from chance in the cases would be wrong elsewhere.
RISING = [
    "score",
    "score_amount",
    "score_fine",
    "score_above_controls",
    "gap_best_control",
    "rank_controls",
    "gap_rival",
    "gap_rival_far",
    "agree_share",
    "profile_contrast",
    "profile_contrast_large",
    "offset_within_1mm",
    "block_share_still",
    "direction_agreement",
    "explained",
    "explained_large",
    "explained_above_chance",
    "cta_explained",
    "cta_explained_above_chance",
]
FALLING = [
    "rival_best_mm",
    "rival_basins",
    "climb_shift_mm",
    "shift_mm_kinds",
    "shift_mm_kinds_least",
    "shift_mm_halves",
    "shift_mm_halves_worst",
    "profile_width_mm",
    "profile_width_mm_large",
    "profile_shift_mm",
    "profile_shift_mm_large",
    "offset_missing",
    "offset_median_mm",
    "block_median_mm",
    "block_scatter_mm",
    "block_gain",
    "distance_mean_mm",
    "uncertain_turn_u",
    "uncertain_turn_v",
    "uncertain_turn_depth",
    "uncertain_shift_u",
    "uncertain_shift_v",
    "uncertain_shift_depth",
]
EITHER = ["score_kept", "covered", "content_veins", "content_length", "content_clipped"]
NAMES = (*RISING, *FALLING, *EITHER)
SIGNS = np.array([1] * len(RISING) + [-1] * len(FALLING) + [0] * len(EITHER))

TARGETS: dict[str, tuple[str, str, Callable[[float], bool]]] = {
    "auc": ("area under the ROC", f"{LEAST_AUC}", lambda v: v >= LEAST_AUC),
    "accepted_wrong": ("wrong among the accepted", f"{100 * MOST_WRONG:g} %", lambda v: v <= MOST_WRONG),
    "right_accepted": ("accepted among the right", f"{100 * LEAST_RIGHT:g} %", lambda v: v >= LEAST_RIGHT),
    "calibration_error": ("expected calibration error", f"{MOST_ECE}", lambda v: v <= MOST_ECE),
}

Fit = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def cases(path: Path) -> list[dict[str, Any]]:
    """Every registration on record, with its patient's seed."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        rows += [{**row, "seed": record["case"]["seed"], "commit": record["commit"]} for row in record["rows"]]
    return rows


# -- the two kinds of model ------------------------------------------------------------------------------


def boosted(x: np.ndarray, y: np.ndarray) -> Any:
    """Boosted trees, monotonic where the sign is known; scikit-learn's."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=120,
        learning_rate=0.06,
        max_leaf_nodes=6,
        min_samples_leaf=12,
        l2_regularization=2.0,
        max_features=0.3,
        monotonic_cst=SIGNS,
        early_stopping=False,
        random_state=0,
    ).fit(x, y)


def fit_trees(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return boosted(x, y).decision_function  # type: ignore[no-any-return]


def standard(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Limits, middle and spread (F,) that bring features to comparable size; outliers are cut off."""
    low, high = np.quantile(x, (0.02, 0.98), axis=0)
    cut = np.clip(x, low, high)
    return low, high, cut.mean(axis=0), np.maximum(cut.std(axis=0), 1e-6)


def logistic(x: np.ndarray, y: np.ndarray, penalty: float = 0.03) -> Linear:
    """Logistic regression in which every feature speaks in its own direction or not at all."""
    low, high, middle, spread = standard(x)
    z = (np.clip(x, low, high) - middle) / spread
    sign = np.where(y, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (z @ w[1:] + w[0])
        slope = -sign / (1 + np.exp(np.clip(margin, -500, 500))) / len(y)
        gradient = np.concatenate([[slope.sum()], z.T @ slope + 2 * penalty * w[1:]])
        return float(np.logaddexp(0, -margin).mean() + penalty * (w[1:] ** 2).sum()), gradient

    bounds = [(None, None), *((0, None) if s > 0 else (None, 0) if s < 0 else (None, None) for s in SIGNS)]
    found = optimize.minimize(loss, np.zeros(1 + x.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return Linear(float(found[0]), low, high, middle, spread, found[1:])


def linear_error(x: np.ndarray, error_mm: np.ndarray, penalty: float = 0.03) -> Linear:
    """The same for the logarithm of the error, by least squares."""
    low, high, middle, spread = standard(x)
    z = (np.clip(x, low, high) - middle) / spread
    target = np.log(np.clip(error_mm, 0.2, WORST_MM))
    ridge = np.sqrt(penalty * len(z)) * np.eye(z.shape[1])
    bounds = np.where(SIGNS < 0, 0.0, -np.inf), np.where(SIGNS > 0, 0.0, np.inf)
    matrix = np.concatenate([z, ridge])
    w = optimize.lsq_linear(matrix, np.concatenate([target - target.mean(), np.zeros(len(ridge))]), bounds).x
    return Linear(float(target.mean()), low, high, middle, spread, w)


def fit_logistic(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return logistic(x, y)


# -- figures ---------------------------------------------------------------------------------------------


def folds(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Masks (n,) of the rows left out: all of a patient at once."""
    seeds = np.unique(groups)
    shuffled = np.random.default_rng(0).permutation(seeds)
    for n in range(min(FOLDS, len(seeds))):
        yield np.isin(groups, shuffled[n::FOLDS])


def left_out(fit: Fit, x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Log odds (n,) of each row by a model that has not seen its patient."""
    odds = np.zeros(len(y))
    for out in folds(groups):
        odds[out] = fit(x[~out], y[~out])(x[out])
    return odds


def platt(odds: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100.0).fit(odds[:, None], y)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def calibrated(odds: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probability (n,) of each row, calibrated on other patients than its own."""
    probability = np.zeros(len(y))
    for out in folds(groups):
        slope, intercept = platt(odds[~out], y[~out])
        probability[out] = 1 / (1 + np.exp(-(slope * odds[out] + intercept)))
    return probability


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


def accept_limit(p: np.ndarray, y: np.ndarray) -> float:
    """The lowest limit with at most `MOST_WRONG` wrong among the accepted, all higher limits keeping to it within one case."""
    order = np.argsort(-p, kind="stable")
    wrong = np.cumsum(~y[order]) / np.arange(1, len(y) + 1)
    good = np.flatnonzero(wrong <= MOST_WRONG)
    if not len(good):
        return 0.99
    last = int(good[-1])
    below = float(p[order[last + 1]]) if last + 1 < len(y) else 0.0
    return (float(p[order[last]]) + below) / 2


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


def transferred(x: np.ndarray, y: np.ndarray, seeds: np.ndarray, test: np.ndarray) -> list[str] | None:
    """Row of figures on the rows `test` (n,) of a model trained, calibrated and limited on all others; None if either is one-sided."""
    rest = ~test
    if not 0 < y[test].sum() < test.sum() or not 0 < y[rest].sum() < rest.sum():
        return None
    odds = left_out(fit_logistic, x[rest], y[rest], seeds[rest])
    slope, intercept = platt(odds, y[rest])
    limit = accept_limit(calibrated(odds, y[rest], seeds[rest]), y[rest])
    p = 1 / (1 + np.exp(-(slope * logistic(x[rest], y[rest])(x[test]) + intercept)))
    reached = figures(p, y[test], limit)
    counts = f"{int(y[test].sum())} of {int(test.sum())}, {len(np.unique(seeds[test]))} patients"
    return [
        counts,
        *(f"{reached[key]:.3f}" for key in ("auc", "accepted_wrong", "right_accepted", "calibration_error")),
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
    capped = np.clip(error_mm, 0.2, WORST_MM)
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


def main(argv: Sequence[str] | None = None) -> None:
    options = benchmarking.parse("confidence", __doc__ or "", argv)
    rows = cases(options.results / "confidence_cases.jsonl")
    x = np.array([[row["features"][name] for name in NAMES] for row in rows])
    error_mm = np.array([row["mpe_mm"] for row in rows])
    y, seeds = error_mm < SUCCESS_MM, np.array([row["seed"] for row in rows])
    kinds = np.array([row["kind"] for row in rows])
    compared = {}
    for name, fit in (("boosted trees", fit_trees), ("logistic regression", fit_logistic)):
        odds = left_out(fit, x, y, seeds)
        p = calibrated(odds, y, seeds)
        compared[name] = (odds, p, accept_limit(p, y))
    odds, p, accept = compared[SHIPS]
    reject = 0.2
    expected = np.zeros(len(y))
    for out in folds(seeds):
        expected[out] = np.exp(linear_error(x[~out], error_mm[~out])(x[out]))
    slope, intercept = platt(odds, y)
    right, error = logistic(x, y), linear_error(x, error_mm)
    typical = {
        name: tuple(
            float(f"{v:.4g}")
            for v in np.quantile([row["features"][name] for row in rows if row["mpe_mm"] < SUCCESS_MM], (0.05, 0.95))
        )
        for name in REASONS
    }
    reached = figures(p, y, accept)
    card = {
        "trained": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": benchmarking.commit(),
        "by": options.command,
        "data": f"{len(y)} registrations, {int(y.sum())} right, of {len(np.unique(seeds))} phantom patients "
        f"(seeds {seeds.min()} to {seeds.max()})",
        "kinds": {
            kind: f"{int(y[kinds == kind].sum())} right of {int((kinds == kind).sum())}" for kind in np.unique(kinds)
        },
        "right_means": f"MPE below {SUCCESS_MM:g} mm",
        "cross_validated_by_patient": {name: round(value, 4) for name, value in reached.items()},
        "limits": {"accept": round(accept, 4), "reject": reject},
        "not_for": "Phantoms only: how it does on patients is not known. Research use only.",
    }
    model = ConfidenceModel(NAMES, right, error, slope, intercept, round(accept, 4), reject, typical)
    save_model(model, options.results / "confidence.json" if options.small else SHIPPED, card)
    plot(p, y, error_mm, expected, accept, reject, options.results / "confidence.png")
    write(options, rows, compared, y, kinds, x, expected, error_mm, reject, seeds)


def write(
    options: benchmarking.Options,
    rows: list[dict[str, Any]],
    compared: dict[str, tuple[np.ndarray, np.ndarray, float]],
    y: np.ndarray,
    kinds: np.ndarray,
    x: np.ndarray,
    expected: np.ndarray,
    error_mm: np.ndarray,
    reject: float,
    seeds: np.ndarray,
) -> None:
    """The tables."""
    standard = np.isin(seeds, STANDARD_SEEDS)
    transfers = [
        [name, *row]
        for name, test in (("varied, then the standard ones", standard), ("standard, then the varied ones", ~standard))
        if (row := transferred(x, y, seeds, test)) is not None
    ]
    result = {name: figures(p, y, limit) for name, (_, p, limit) in compared.items()}
    main_rows = [
        [
            title,
            *(f"{values[key]:.3f}" for values in result.values()),
            target,
            verdict(ok(result[SHIPS][key])),
        ]
        for key, (title, target, ok) in TARGETS.items()
    ]
    main_rows.append(["Brier score", *(f"{values['brier']:.4f}" for values in result.values()), "", ""])
    odds, p, accept = compared[SHIPS]
    by_kind = []
    for kind in np.unique(kinds):
        k = kinds == kind
        out = np.zeros(len(y))
        if 0 < y[~k].sum() < (~k).sum():
            slope, intercept = platt(odds[~k], y[~k])
            out = 1 / (1 + np.exp(-(slope * logistic(x[~k], y[~k])(x) + intercept)))
        states = p[k] >= accept, (p[k] < accept) & (p[k] >= reject), p[k] < reject
        by_kind.append(
            [
                kind,
                f"{int(y[k].sum())} of {int(k.sum())}",
                f"{auc(p[k], y[k]):.3f}",
                *(f"{int((s & y[k]).sum())} / {int((s & ~y[k]).sum())}" for s in states),
                f"{auc(out[k], y[k]):.3f}",
                f"{int(((out[k] >= accept) & ~y[k]).sum())}",
            ]
        )
    near = (error_mm >= 3) & (error_mm < 10)
    ratio = np.abs(np.log(expected / np.clip(error_mm, 0.2, WORST_MM)))
    body = "\n\n".join(
        [
            f"{len(y)} registrations of {len({row['seed'] for row in rows})} phantom patients, {int(y.sum())} right "
            f"(MPE < {SUCCESS_MM:g} mm), wrong ones made on purpose (see `confidence_cases.py`). Every figure by models that have not "
            f"seen the patient ({FOLDS} folds), calibrated on other patients; the limit of acceptance is chosen on these same "
            "figures, so the second and third row flatter a little.",
            table(["", *result, "target", SHIPS], main_rows),
            f"Limits: accepted from {accept:.3f}, rejected below {reject:g}. Between 3 and 10 mm lie {int(near.sum())} registrations; "
            f"without them the area under the ROC is {auc(p[~near], y[~near]):.3f}. The expected error is off by a factor of "
            f"{np.exp(np.median(ratio)):.2f} in the median.",
            *(
                [
                    "Phantoms with other parameters (standard: as in robustness.py; varied: coarser CTA, shorter runs, more motion "
                    "and noise, see `confidence_cases.py`); limit and calibration, too, come from those trained on:",
                    table(
                        [
                            "trained on",
                            "tested on, right",
                            "AUC",
                            "wrong accepted",
                            "right accepted",
                            "calibration error",
                        ],
                        transfers,
                    ),
                ]
                if transfers
                else []
            ),
            "By kind: right / wrong in each state; then the same kind left out of the training altogether.",
            table(
                [
                    "kind",
                    "right",
                    "AUC",
                    "accepted",
                    "look closely",
                    "rejected",
                    "AUC, kind left out",
                    "wrong accepted, kind left out",
                ],
                by_kind,
            ),
            "![Reliability diagram](confidence.png)",
        ]
    )
    benchmarking.write_result("confidence", "Confidence: how often it is right about being right", body, options)


if __name__ == "__main__":
    main()
