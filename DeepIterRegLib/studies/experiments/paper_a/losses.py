"""Loss traces of every patient (A supplementary Figures 3.5 and 3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table, rounded
from DeepIterRegLib.studies.experiments.objects import Item, Study, subject, subject_name
from DeepIterRegLib.studies.experiments.paper_a.stages import (
    STAGES_PROTOCOL,
    TEST_SET,
    descend,
    errors_of,
    paper_stages,
)
from DeepIterRegLib.studies.experiments.papers import PAPER_A

EVERY = 10  # iterations between the scores that are recorded: 200 tell a curve of 2000
_SETTLED = 0.95  # of the gain; A says within how many iterations "most" of it is found


@dataclass(frozen=True)
class _Said:
    """A stage's score: its name, the title of its plot, and what the paper says of it."""

    name: str
    title: str
    words: str


SCORES = {
    "ncc": _Said(
        "NCC",
        "Stage 1, NCC (A Fig. 3.5)",
        "most converged in under 500 iterations, some still rise after 1500",
    ),
    "mutual_information": _Said(
        "mutual information",
        "Stage 2, mutual information (A Fig. 3.6)",
        "in many cases most of the gain in the first 25 iterations",
    ),
}


def loss_items(study: Study, n: int) -> list[Item]:
    """A patient an item."""
    return [{"subject": who} for who in study.subjects(n)]


def loss_work(study: Study, item: Item) -> dict[str, Any]:
    """Both stages from the radiological pose, every score of the way."""
    of = subject(study, item["subject"])
    poses = np.asarray(pose.radiological(of.cta.centre_mm))[None]
    result: dict[str, Any] = {"before": errors_of(of, poses)["mm"][0]}
    for stage in paper_stages(study.small):
        found = descend(study, of, stage, poses)
        poses = found.pose.numpy()
        trace = found.trace[:, 0].numpy()
        result[stage.score] = {
            "trace": rounded(trace[:: 1 if study.small else EVERY]),
            "mpe_mm": errors_of(of, poses)["mm"][0],
            "first": float(trace[0]),
            "best": float(trace.max()),
            "settled": int(np.argmax(trace >= trace[0] + _SETTLED * (trace.max() - trace[0]))),
        }
    return result


def loss_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 3.5 and 3.6: a curve a patient."""
    from DeepIterRegLib.studies.experiments import plots

    every = 1 if study.small else EVERY
    comparison, drawings, figures = [], {}, {}
    for score, said in SCORES.items():
        curves = np.array([r[score]["trace"] for _, r in done]).T
        settled = np.array([r[score]["settled"] for _, r in done])
        gain = np.array([r[score]["best"] - r[score]["first"] for _, r in done])
        steps = [float(n * every) for n in range(len(curves))]
        drawings[f"losses_{score}"] = (said.title, plots.traces({said.name: (steps, curves)}, said.name))
        here = (
            f"95 % of the gain after {np.median(settled):.0f} iterations (median; {settled.min()} to {settled.max()}); "
            f"gain {np.median(gain):.3g}"
        )
        comparison.append((said.title, said.words, here))
        figures[score] = {"median_settled": float(np.median(settled)), "median_gain": float(np.median(gain))}
    rows = [_row(item, result) for item, result in done]
    table = [[f"{v:.4g}" if isinstance(v, float) else v for v in row.values()] for row in rows]
    header = [key.replace("_", " ") for key in rows[0]]
    return Summary(comparison, rows, figures, [Table("By patient", header, table)], drawings)


def _row(item: Item, result: dict[str, Any]) -> dict[str, Any]:
    row = {"patient": subject_name(item["subject"]), "before_mm": result["before"]}
    for score in SCORES:
        row |= {f"{score}_{key}": result[score][key] for key in ("first", "best", "settled", "mpe_mm")}
    return row


LOSSES = Experiment(
    "Loss traces of every patient",
    PAPER_A,
    "Paper A, supplementary Figures 3.5 and 3.6",
    STAGES_PROTOCOL + " From the radiological pose. The curves are similarities: higher is better.",
    "patients",
    TEST_SET,
    1,
    loss_items,
    loss_work,
    loss_summary,
)
