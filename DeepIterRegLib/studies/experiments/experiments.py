"""The table of experiments: the name a person types, and what it does."""

from __future__ import annotations

from DeepIterRegLib.studies.experiments import paper_a, paper_b
from DeepIterRegLib.studies.experiments.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "drr-time": paper_b.DRR_TIME,
    "landscape": paper_b.LANDSCAPE,
    "optimisers": paper_b.OPTIMISERS,
    "monte-carlo": paper_b.MONTE_CARLO,
    "anatomy": paper_a.ANATOMY,
    "capture-range": paper_a.CAPTURE_RANGE,
    "pipeline": paper_a.PIPELINE,
    "losses": paper_a.LOSSES,
    "pose-statistics": paper_a.POSE_STATISTICS,
}
