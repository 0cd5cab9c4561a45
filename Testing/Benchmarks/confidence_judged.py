"""Judges the shipped confidence on patients as in the cohort, never seen before: by default, by vessels alone, and wrong on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmarking
import cohort
import confidence_figures
import numpy as np
from benchmarking import Case, Result, table, verdict
from cohort import STRANGER_MM

from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.registration.confidence.model import SHIPPED, SHIPPED_SKULL, ConfidenceModel, load_model

SEEDS, SMALL_SEEDS = range(4000, 4064), range(40, 42)
OFF = 25.0  # how far from the truth, deg and mm on every axis, what is wrong on purpose begins at most
BY_DEFAULT = {"one": "one view", "two": "two views", "stranger": "a stranger's CTA"}
STARTED_OFF = {
    "off": "one view, started off",
    "two off": "two views, started off",
}  # the skull is not asked where to start
UNSEEN = "arterial phase"  # the model of vessels alone was trained on no patient of this row


def run_case(case: Case) -> Result:
    """One patient in each row, by one view and by both, and a stranger's CTA; unless `alone`, also from starts far off.

    `alone` is by `--init search`, as if no run had a mask frame.
    """
    made = cohort.make_all(case["seed"], case.get("small", False))
    able = {row: patient for row, patient in made.items() if isinstance(patient, cohort.Made)}
    names, rows = list(able), {}
    for row, patient in able.items():
        stranger = able[names[(names.index(row) + 1) % len(names)]]
        if case.get("alone"):
            rows[row] = {
                "one": cohort.registered(patient, 1, init="search"),
                "two": cohort.registered(patient, 2, init="search"),
            }
        else:
            rng = np.random.default_rng([case["seed"], list(made).index(row), 31])
            rows[row] = {
                **cohort.by_default(patient),
                "off": cohort.registered(patient, 1, start=cohort.off(patient, OFF, rng)),
                "two off": cohort.registered(patient, 2, start=cohort.off(patient, OFF, rng)),
            }
        if stranger is not patient:
            init = "search" if case.get("alone") else "auto"
            rows[row]["stranger"] = cohort.registered(patient, 1, init=init, stranger=stranger)
    return cohort.judged_only({"rows": rows})


def registrations(records: Sequence[dict[str, Any]], kinds: dict[str, str], alone: bool) -> list[dict[str, Any]]:
    """Every registration of these kinds that was not refused; the refused ones said so themselves."""
    return [
        {"row": row, "kind": name, **found}
        for record in records
        if bool(record["case"].get("alone")) == alone
        for row, of in record["rows"].items()
        for key, name in kinds.items()
        if "predicted" in (found := of.get(key, {}))
    ]


def judged(name: str, model: ConfidenceModel, rows: Sequence[dict[str, Any]], picture: Path) -> list[str]:
    """Figures, states by kind and the reliability diagram of registrations, by what the model of this name predicted of them."""
    error_mm = np.array([row["mpe_mm"] for row in rows])
    y = error_mm < SUCCESS_MM
    kinds, unseen = np.array([row["kind"] for row in rows]), np.array([row["row"] == UNSEEN for row in rows])
    p, expected_mm = np.array([row["predicted"][name] for row in rows]).T
    reached, apart = (
        confidence_figures.figures(p, y, model.accept),
        confidence_figures.figures(p[unseen], y[unseen], model.accept),
    )
    figures = [
        [title, f"{reached[key]:.3f}", f"{apart[key]:.3f}", target, verdict(ok(reached[key]))]
        for key, (title, target, ok) in confidence_figures.TARGETS.items()
    ]
    parts = [
        f"{len(y)} registrations, {int(y.sum())} right (MPE < {SUCCESS_MM:g} mm in the worse view).",
        table(["", "measured", f"{UNSEEN} only", "target", ""], figures),
        confidence_figures.wrong_of_accepted(p, y, model.accept),
        "By kind: right / wrong in each state.",
        table(
            ["kind", "right", "accepted", "look closely", "rejected"],
            confidence_figures.by_kind(p, y, kinds, model.accept, model.reject),
        ),
    ]
    worst = [
        [row["row"], row["kind"], "-" if row["mpe_mm"] == STRANGER_MM else f"{row['mpe_mm']:.1f}", f"{at:.3f}"]
        for row, at in zip(rows, p, strict=True)
        if at >= model.accept and row["mpe_mm"] >= SUCCESS_MM
    ]
    if worst:
        parts += ["Accepted and wrong:", table(["row", "kind", "MPE mm", "probability"], worst)]
    confidence_figures.plot(p, y, error_mm, expected_mm, model.accept, model.reject, picture)
    return [*parts, f"![Reliability diagram]({picture.name})"]


def page(records: Sequence[dict[str, Any]], folder: Path) -> str:
    """What all records come to, with and without the skull; its pictures go into the folder."""
    by_vessels = [record for record in records if record["case"].get("alone")]
    patients, patients_alone = sum(len(r["rows"]) for r in records), sum(len(r["rows"]) for r in by_vessels)
    rows = registrations(records, {**BY_DEFAULT, **STARTED_OFF}, alone=False)
    parts = [
        f"Registrations of {patients - patients_alone} patients made as those of the "
        "[cohort](cohort.md): as by default with one view and two, from starts up to 25 deg and 25 mm off, and of a stranger's CTA. "
        f'The models and their limits as they ship; of the row "{UNSEEN}" that of vessels alone has seen no patient.',
        "## Vessels and skull",
        *judged("skull", load_model(SHIPPED_SKULL), rows, folder / "confidence_judged.png"),
    ]
    if by_vessels:
        alone = registrations(records, BY_DEFAULT, alone=True) + registrations(records, STARTED_OFF, alone=False)
        parts += [
            "## Vessels alone",
            f"Of {patients_alone} patients by the search in the default's place, as if no run had its mask frame "
            "(but the head's motion was undone with it), and the starts off as above.",
            *judged("vessels", load_model(SHIPPED), alone, folder / "confidence_judged_alone.png"),
        ]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    options = benchmarking.parse("confidence_judged", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    seeds = SMALL_SEEDS if options.small else SEEDS
    extra = {"small": True} if options.small else {}
    cases: list[Case] = [{"seed": seed, **how, **extra} for how in ({}, {"alone": True}) for seed in seeds]
    settings = cohort.settings_of_all(options.small)
    records = benchmarking.run_cases("confidence_judged", cases, run_case, settings, options)
    benchmarking.write_result(
        "confidence_judged", "Confidence, judged", page(records, options.results), options, records
    )


if __name__ == "__main__":
    main()
