"""The table of experiments: the name a person types, and what it does."""

from __future__ import annotations

from DeepIterRegLib.studies.experiments.experiment import Experiment
from DeepIterRegLib.studies.experiments.paper_a.anatomy import ANATOMY
from DeepIterRegLib.studies.experiments.paper_a.capture_range import CAPTURE_RANGE
from DeepIterRegLib.studies.experiments.paper_a.losses import LOSSES
from DeepIterRegLib.studies.experiments.paper_a.pipeline import PIPELINE
from DeepIterRegLib.studies.experiments.paper_a.pose_statistics import POSE_STATISTICS
from DeepIterRegLib.studies.experiments.paper_b.drr_time import DRR_TIME
from DeepIterRegLib.studies.experiments.paper_b.landscape import LANDSCAPE
from DeepIterRegLib.studies.experiments.paper_b.random_poses import MONTE_CARLO, OPTIMISERS

EXPERIMENTS: dict[str, Experiment] = {
    "drr-time": DRR_TIME,
    "landscape": LANDSCAPE,
    "optimisers": OPTIMISERS,
    "monte-carlo": MONTE_CARLO,
    "anatomy": ANATOMY,
    "capture-range": CAPTURE_RANGE,
    "pipeline": PIPELINE,
    "losses": LOSSES,
    "pose-statistics": POSE_STATISTICS,
}
