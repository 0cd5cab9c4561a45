"""Judges the shipped confidence on patients as in the cohort, never seen before: by default, and wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import benchmarking
import cohort
import confidence
import numpy as np
from benchmarking import Case, Result, table, verdict
from cohort import STRANGER_MM

from DeepIterRegLib.confidence.model import SHIPPED, SHIPPED_SKULL, load_model
from DeepIterRegLib.geometry.mpe import SUCCESS_MM

SEEDS, SMALL_SEEDS = range(4000, 4064), range(40, 42)
OFF = 25.0  # how far from the truth, deg and mm on every axis, what is wrong on purpose begins at most
KINDS = {
    "one": "one view",
    "two": "two views",
    "off": "one view, started off",
    "two off": "two views, started off",
    "stranger": "a stranger's CTA",
}
UNSEEN = "arterial phase"  # no patient of this row was trained on


def run_case(case: Case) -> Result:
    """One patient in each row: registered by one view and by both, from starts far off, and a stranger's CTA."""
    made = cohort.make_all(case["seed"], case.get("small", False))
    rows = {row: cohort.by_default(patient) for row, patient in made.items()}
    able = {row: patient for row, patient in made.items() if isinstance(patient, cohort.Made)}
    names = list(able)
    for row, patient in able.items():
        if len(names) < 2:
            continue
        stranger = able[names[(names.index(row) + 1) % len(names)]]
        rng = np.random.default_rng([case["seed"], list(made).index(row), 31])
        rows[row]["off"] = cohort.registered(patient, 1, start=cohort.off(patient, OFF, rng))
        rows[row]["two off"] = cohort.registered(patient, 2, start=cohort.off(patient, OFF, rng))
        rows[row]["stranger"] = cohort.registered(patient, 1, stranger=stranger)
    return {"rows": rows}


def registrations(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every registration that was not refused; the refused ones said so themselves."""
    return [
        {"row": row, "kind": name, **found}
        for record in records
        for row, of in record["rows"].items()
        for key, name in KINDS.items()
        if "features" in (found := of.get(key, {}))
    ]


def main(argv: Sequence[str] | None = None) -> None:
    options = benchmarking.parse("confidence_judged", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    seeds = SMALL_SEEDS if options.small else SEEDS
    cases: list[Case] = [{"seed": seed, **({"small": True} if options.small else {})} for seed in seeds]
    records = benchmarking.run_cases(
        "confidence_judged", cases, run_case, cohort.settings_of_all(options.small), options
    )
    rows = registrations(records)
    error_mm = np.array([row["mpe_mm"] for row in rows])
    y = error_mm < SUCCESS_MM
    kinds, unseen = np.array([row["kind"] for row in rows]), np.array([row["row"] == UNSEEN for row in rows])
    parts = [
        f"{len(y)} registrations of {sum(len(r['rows']) for r in records)} patients made as those of the [cohort](cohort.md), "
        f"{int(y.sum())} right (MPE < {SUCCESS_MM:g} mm in the worse view): as by default with one view and two, "
        "from starts up to 25 deg and 25 mm off, and of a stranger's CTA. The models and their limits as they ship; "
        f'of the row "{UNSEEN}" they have seen no patient.'
    ]
    for name, path in (
        ("Vessels and skull", SHIPPED_SKULL),
        ("Vessels alone, of the same poses (which were found with the skull)", SHIPPED),
    ):
        model = load_model(path)
        p, expected_mm = np.array([model.predict(row["features"]) for row in rows]).T
        reached, apart = confidence.figures(p, y, model.accept), confidence.figures(p[unseen], y[unseen], model.accept)
        figures = [
            [title, f"{reached[key]:.3f}", f"{apart[key]:.3f}", target, verdict(ok(reached[key]))]
            for key, (title, target, ok) in confidence.TARGETS.items()
        ]
        parts += [
            f"## {name}",
            table(["", "measured", f"{UNSEEN} only", "target", ""], figures),
            confidence.wrong_of_accepted(p, y, model.accept),
            "By kind: right / wrong in each state.",
            table(
                ["kind", "right", "accepted", "look closely", "rejected"],
                confidence.by_kind(p, y, kinds, model.accept, model.reject),
            ),
        ]
        worst = [
            [row["row"], row["kind"], "-" if row["mpe_mm"] == STRANGER_MM else f"{row['mpe_mm']:.1f}", f"{at:.3f}"]
            for row, at in zip(rows, p, strict=True)
            if at >= model.accept and row["mpe_mm"] >= SUCCESS_MM
        ]
        if worst:
            parts += ["Accepted and wrong:", table(["row", "kind", "MPE mm", "probability"], worst)]
        if path == SHIPPED_SKULL:
            picture = options.results / "confidence_judged.png"
            confidence.plot(p, y, error_mm, expected_mm, model.accept, model.reject, picture)
            parts.append("![Reliability diagram](confidence_judged.png)")
    benchmarking.write_result("confidence_judged", "Confidence, judged", "\n\n".join(parts), options, records)


if __name__ == "__main__":
    main()
