"""Judges the shipped confidence on mixed cases of patients it has never seen, wrong registrations on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import benchmarking
import confidence
import confidence_cases
import numpy as np
from benchmarking import Case, table, verdict

from DeepIterRegLib.confidence.model import load_model
from DeepIterRegLib.geometry.mpe import SUCCESS_MM

# Judging seeds; --small tries the script on development ones. About 17 registrations a patient.
SEEDS = range(3200, 3260)


def main(argv: Sequence[str] | None = None) -> None:
    options = benchmarking.parse("confidence_judged", __doc__ or "", argv)
    cases: list[Case] = (
        [{"seed": seed, "small": True} for seed in confidence_cases.SMALL_SEEDS]
        if options.small
        else [{"seed": seed} for seed in SEEDS]
    )
    settings = {"version": confidence_cases.VERSION}
    records = benchmarking.run_cases("confidence_judged", cases, confidence_cases.run_case, settings, options)
    rows = [row for record in records for row in record["rows"]]
    model = load_model()
    p, expected_mm = np.array([model.predict(row["features"]) for row in rows]).T
    error_mm = np.array([row["mpe_mm"] for row in rows])
    kinds = np.array([row["kind"] for row in rows])
    y = error_mm < SUCCESS_MM
    reached = confidence.figures(p, y, model.accept)
    confidence.plot(p, y, error_mm, expected_mm, model.accept, model.reject, options.results / "confidence_judged.png")
    figures = [
        [title, f"{reached[key]:.3f}", target, verdict(ok(reached[key]))]
        for key, (title, target, ok) in confidence.TARGETS.items()
    ]
    states = (p >= model.accept, (p < model.accept) & (p >= model.reject), p < model.reject)
    by_kind = [
        [
            kind,
            f"{int(y[k].sum())} of {int(k.sum())}",
            *(f"{int((s & k & y).sum())} / {int((s & k & ~y).sum())}" for s in states),
        ]
        for kind in np.unique(kinds)
        for k in (kinds == kind,)
    ]
    body = "\n\n".join(
        [
            f"{len(y)} registrations of {len(records)} phantom patients, {int(y.sum())} right (MPE < {SUCCESS_MM:g} mm), wrong ones made "
            "on purpose; the model and its limits as they ship.",
            table(["", "measured", "target", ""], figures),
            "By kind: right / wrong in each state.",
            table(["kind", "right", "accepted", "look closely", "rejected"], by_kind),
            "![Reliability diagram](confidence_judged.png)",
        ]
    )
    benchmarking.write_result("confidence_judged", "Confidence, judged", body, options, records)


if __name__ == "__main__":
    main()
