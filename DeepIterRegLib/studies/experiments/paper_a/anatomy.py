"""Which anatomy registers: all vessels, veins, arteries, or half of them (A 4.4, Figure 8)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary
from DeepIterRegLib.studies.experiments.objects import Item, Study, subject
from DeepIterRegLib.studies.experiments.paper_a.capture_range import summary_of_starts
from DeepIterRegLib.studies.experiments.paper_a.stages import (
    STAGES_PROTOCOL,
    STARTS_PROTOCOL,
    TEST_SET,
    descend,
    errors_of,
    paper_stages,
    patient_starts,
)
from DeepIterRegLib.studies.experiments.papers import PAPER_A

# Vessels "removed at random" go by cubes of this side, so that whole pieces are missing, as in a bad mask.
_HALF_CELL_MM = 15.0
_HALF_STREAM = 7  # tells the cubes' random numbers from those of the starts
ANATOMIES = {
    "full": "all vessels",
    "veins": "veins",
    "arteries": "arteries",
    "half": "half of the vessels, removed at random",
}


def anatomy_items(study: Study, n: int) -> list[Item]:
    """Each anatomy of each patient."""
    return [{"subject": who, "anatomy": name} for who in study.subjects(n) for name in ANATOMIES]


def anatomy_work(study: Study, item: Item) -> dict[str, Any]:
    """Stage 1 with a part of the CTA's vessels against the run's like part, from the same starts."""
    of = subject(study, item["subject"])
    name = item["anatomy"]
    vessels, veins = of.vessels.voxels > 0, of.veins.voxels > 0
    voxels = {"full": vessels, "half": vessels, "veins": veins, "arteries": vessels & ~veins}[name]
    if name == "half":
        voxels = voxels & _every_second_cube(of.vessels, study.seed)
    drawn = name if name in ("veins", "arteries") else "vessels"
    if not voxels.any() or not getattr(of.masks, drawn).any():
        raise InputError(f"There are no {drawn} in the {'CTA' if not voxels.any() else 'run'}.")
    starts = patient_starts(study, of, item)
    begin = time.perf_counter()
    found = descend(study, of, paper_stages(study.small)[0], starts, of.vessels.with_voxels(voxels), drawn)
    seconds = time.perf_counter() - begin
    return {"before": errors_of(of, starts), "after": errors_of(of, found.pose.numpy()), "seconds": seconds}


def _every_second_cube(vessels: Volume, seed: int) -> np.ndarray:
    """Voxels (k, j, i) bool in cubes of which every second, at random, is taken."""
    size = np.maximum(1, np.round(_HALF_CELL_MM / vessels.spacing_mm[::-1]).astype(int))
    cubes = np.array([-(-count // s) for count, s in zip(vessels.voxels.shape, size, strict=True)])
    taken = np.random.default_rng([seed, _HALF_STREAM]).random(tuple(cubes)) < 0.5
    grids = [np.arange(count) // s for count, s in zip(vessels.voxels.shape, size, strict=True)]
    return np.asarray(taken[np.ix_(*grids)])


def anatomy_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 8: capture ranges and means before and after."""
    groups = {
        label: [(i, r) for i, r in done if i["anatomy"] == name]
        for name, label in ANATOMIES.items()
        if any(i["anatomy"] == name for i, _ in done)
    }
    paper = {
        ANATOMIES["full"]: "22 px (19 mm) before, 14 px (12.9 mm) after; capture range 20 px",
        ANATOMIES["veins"]: "14 px (12.7 mm) after; capture range 20 px",
    }
    title = "Which anatomy registers (A Fig. 8)"
    return summary_of_starts(groups, paper, {"all vessels, veins": 20.0}, "anatomy", "anatomy", title)


ANATOMY = Experiment(
    "Which anatomy registers",
    PAPER_A,
    "Paper A, section 4.4 and Figure 8",
    STAGES_PROTOCOL
    + STARTS_PROTOCOL
    + " Only stage 1. Veins and arteries of the CTA are compared with those of the run, all others with all its vessels.",
    "patients",
    TEST_SET,
    1,
    anatomy_items,
    anatomy_work,
    anatomy_summary,
)
