"""Trains the confidence that knows the skull too: right, loose and wrong registrations of development patients, wrong CTAs among them."""

from __future__ import annotations

import json
import math
import pickle
from datetime import UTC, datetime
from typing import Any

import benchmarking
import cohort
import confidence
import numpy as np
from benchmarking import Case, Result, table, verdict
from scipy import optimize

SEEDS, SMALL_SEEDS = range(1040, 1046), range(40, 42)  # development only
ROWS = ("few vessels", "occluded", "one territory")
WRONG_MM = 60.0  # what "error" a pose of another patient's CTA counts as
NAMES, SIGNS = ("vessels_log_odds", "skull_score", "skull_distance_mm", "skull_loss"), (1, 1, -1, -1)


def made(row: str, seed: int, small: bool) -> Any:
    """A patient of the cohort's kind, kept in the cache."""
    path = benchmarking.CACHE / "cohort" / f"{row.replace(' ', '_')}_{seed}{'_small' if small else ''}.pkl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".part").write_bytes(pickle.dumps(cohort.make(row, seed, small)))
        path.with_suffix(".part").rename(path)
    return pickle.loads(path.read_bytes())  # our own cache


def run_case(case: Case) -> Result:
    """Registrations of one patient by its first view: as by default, without the skull, from starts all about, and of a stranger's CTA."""
    from DeepIterRegLib.errors import InputError, RegistrationError
    from DeepIterRegLib.geometry import mpe_mm, pose
    from DeepIterRegLib.pipeline import RegistrationSettings, register

    row, seed, small = case["row"], case["seed"], case.get("small", False)
    try:
        mine, other = made(row, seed, small), made(row, case["other"], small)
    except InputError as error:
        return {"rows": [], "error": str(error)}
    run, masks, truth = mine.runs[0], mine.masks[0], mine.truths[0]
    rng = np.random.default_rng([seed, 31])
    rows: list[dict[str, Any]] = []

    def note(kind: str, cta: Any, vessels: Any, init: str, start: np.ndarray | None) -> None:
        settings = RegistrationSettings.preset("default", init=init)  # type: ignore[arg-type]
        try:
            found = register(cta, run, settings, cta_mask=vessels, dsa_masks=masks, initial_pose=start)
        except RegistrationError:
            return
        wrong = cta is not mine.cta
        error = WRONG_MM if wrong else float(mpe_mm(run.carm, found.cta_to_carm, truth, cta.centre_mm))
        assert found.confidence is not None
        features = {name: found.confidence.features[name] for name in NAMES}
        rows.append({"kind": kind, "error_mm": min(error, WRONG_MM), "features": features})

    note("default", mine.cta, mine.vessels, "auto", None)
    note("without the skull", mine.cta, mine.vessels, "search", None)
    for size in (6.0, 12.0, 25.0, 25.0):
        turn = pose.euler_deg_to_rotation(rng.uniform(-size, size, 3))
        start = np.asarray(pose.offset_about(truth, mine.cta.centre_mm, turn, rng.uniform(-size, size, 3)))
        note("from a pose nearby", mine.cta, mine.vessels, "file", start)
    note("another patient's CTA", other.cta, other.vessels, "auto", None)
    note("another patient's CTA", other.cta, other.vessels, "search", None)
    return {"rows": rows}


def logistic(x: np.ndarray, y: np.ndarray, penalty: float = 0.01) -> Any:
    """Logistic regression whose weights have the signs their features must have, and its standardisation."""
    from DeepIterRegLib.confidence.model import Linear

    low, high, middle, spread = confidence.standard(x)
    z, sign = (np.clip(x, low, high) - middle) / spread, np.where(y, 1.0, -1.0)

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (z @ w[1:] + w[0])).mean() + penalty * (w[1:] ** 2).sum())

    bounds = [(None, None), *((0, None) if s > 0 else (None, 0) for s in SIGNS)]
    w = optimize.minimize(loss, np.zeros(1 + x.shape[1]), bounds=bounds, method="L-BFGS-B").x
    return Linear(float(w[0]), low, high, middle, spread, w[1:])


def error_model(x: np.ndarray, log_error: np.ndarray) -> Any:
    """Ridge regression of the logarithm of the error."""
    from DeepIterRegLib.confidence.model import Linear

    low, high, middle, spread = confidence.standard(x)
    z = (np.clip(x, low, high) - middle) / spread
    w = np.linalg.solve(z.T @ z + 0.02 * len(z) * np.eye(z.shape[1]), z.T @ (log_error - log_error.mean()))
    return Linear(float(log_error.mean()), low, high, middle, spread, w)


def limit(probability: np.ndarray, right: np.ndarray, least: float) -> float:
    """Probability from which on at most 1 % is wrong; at least `least`."""
    for at in np.unique(np.append(np.round(probability + 5e-4, 3), least)):
        taken = probability >= at
        if at >= least and (not taken.any() or (~right[taken]).mean() <= 0.01):
            return float(at)
    return 1.0


def figures(odds: np.ndarray, right: np.ndarray, accept: float) -> dict[str, float]:
    """As of the vessels' model, with how many were accepted."""
    p = 1 / (1 + np.exp(-odds))
    return {**confidence.figures(p, right, accept), "accepted": float((p >= accept).sum())}


def main(argv: list[str] | None = None) -> None:
    from DeepIterRegLib.confidence.model import SHIPPED, SHIPPED_SKULL, ConfidenceModel, load_model, save_model

    options = benchmarking.parse("confidence_skull", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    seeds = list(SMALL_SEEDS if options.small else SEEDS)
    extra = {"small": True} if options.small else {}
    cases: list[Case] = [
        {"seed": seed, "row": row, "other": seeds[(n + 1) % len(seeds)], **extra}
        for n, seed in enumerate(seeds)
        for row in ROWS
    ]
    settings = {"names": NAMES, "vessels": json.loads(SHIPPED.read_text(encoding="utf-8"))["sha256"]}
    records = benchmarking.run_cases("confidence_skull", cases, run_case, settings, options)
    rows = [{**row, "group": record["case"]["seed"]} for record in records for row in record["rows"]]
    x = np.array([[row["features"][name] for name in NAMES] for row in rows])
    error = np.array([row["error_mm"] for row in rows])
    right, group = error < 5, np.array([row["group"] for row in rows])
    odds = np.zeros(len(rows))
    for seed in np.unique(group):
        odds[group == seed] = logistic(x[group != seed], right[group != seed])(x[group == seed])
    vessels = load_model(SHIPPED)
    # The least limit above which hardly any was wrong, each patient judged by a model that has not seen it.
    accept = limit(1 / (1 + np.exp(-odds)), right, vessels.accept)
    crossed = figures(odds, right, accept)
    alone = figures(x[:, 0], right, vessels.accept)
    low, high = np.quantile(x[right], (0.05, 0.95), axis=0)
    typical = {name: (float(a), float(b)) for name, a, b in zip(NAMES, low, high, strict=True)}
    model = ConfidenceModel(
        NAMES, logistic(x, right), error_model(x, np.log(np.maximum(error, 0.1))), 1.0, 0.0, accept, 0.2, typical
    )
    path = options.results / "confidence_skull.json" if options.small else SHIPPED_SKULL
    kinds = sorted({row["kind"] for row in rows})
    card = {
        "trained": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": benchmarking.commit(),
        "by": "python Testing/Benchmarks/confidence_skull.py",
        "data": f"{len(rows)} registrations, {int(right.sum())} right, of {len(np.unique(group))} times {len(ROWS)} phantom patients",
        "right_means": "MPE below 5 mm against the mask frame's pose",
        "cross_validated_by_patient": {name: round(value, 4) for name, value in crossed.items()},
        "not_for": "Phantoms only: how it does on patients is not known. Research use only.",
    }
    save_model(model, path, card)
    lines = [
        ["area under the ROC", f"{crossed['auc']:.3f}", f"{alone['auc']:.3f}", "0.97", verdict(crossed["auc"] >= 0.97)],
        [
            "wrong among the accepted",
            f"{100 * crossed['accepted_wrong']:.1f} % of {crossed['accepted']:.0f}",
            f"{100 * alone['accepted_wrong']:.1f} % of {alone['accepted']:.0f}",
            "1 %",
            verdict(crossed["accepted_wrong"] <= 0.01),
        ],
        [
            "accepted among the right",
            f"{100 * crossed['right_accepted']:.0f} %",
            f"{100 * alone['right_accepted']:.0f} %",
            "90 %",
            verdict(crossed["right_accepted"] >= 0.9),
        ],
        [
            "expected calibration error",
            f"{crossed['calibration_error']:.3f}",
            f"{alone['calibration_error']:.3f}",
            "0.03",
            verdict(crossed["calibration_error"] <= 0.03),
        ],
    ]
    by_kind = [
        [
            kind,
            sum(row["kind"] == kind for row in rows),
            sum(row["kind"] == kind and row["error_mm"] < 5 for row in rows),
        ]
        for kind in kinds
    ]
    body = "\n\n".join(
        [
            f"{card['data']} (rows {', '.join(ROWS)} of the [cohort](cohort.md), development seeds {seeds[0]} to {seeds[-1]}). "
            "Cross-validated by patient; beside it the vessels' model alone on the same registrations. These cases chose the model: "
            "development figures, not a judgement.",
            f"Accepted from a probability of {accept:g} on, the vessels' model from {vessels.accept:g}.",
            table(["", "vessels and skull", "vessels alone", "target", ""], lines),
            table(["kind", "registrations", "right"], by_kind),
            f"Weights: {', '.join(f'{n} {w:+.2f}' for n, w in zip(NAMES, model.right.weight, strict=True))} (standardised). "
            f"Smallest log odds of a right one {odds[right].min() if right.any() else math.nan:.1f}, "
            f"largest of a wrong one {odds[~right].max() if (~right).any() else math.nan:.1f}.",
        ]
    )
    benchmarking.write_result("confidence_skull", "Confidence that knows the skull", body, options, records)


if __name__ == "__main__":
    main()
