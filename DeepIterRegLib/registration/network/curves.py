"""Losses of a training as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from DeepIterRegLib.common.atomic_output import output_file

PANELS = (
    ("loss", "val_loss", "Loss (A eq. 9)"),
    ("dice", "val_dice", "Dice loss"),
    ("pose", "val_pose", "Pose loss, mm"),
    ("val_mpe_before_mm", "val_mpe_mm", "Mean projection error, mm"),
)


def draw_curves(metrics: Sequence[Path], path: Path) -> None:
    """Draw what Lightning's CSV logger wrote, a file each time the training went on: training and judging, against steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = []
    for file in metrics:
        rows += list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    rows.sort(key=lambda row: int(row["step"]))

    def curve(name: str) -> tuple[list[int], list[float]]:
        filled = [row for row in rows if row.get(name)]
        return [int(row["step"]) for row in filled], [float(row[name]) for row in filled]

    figure, panels = plt.subplots(1, len(PANELS), figsize=(13, 3), constrained_layout=True)
    for axes, (trained, judged, title) in zip(panels, PANELS, strict=True):
        axes.plot(*curve(trained), color="0.65", lw=1, label="before" if "before" in trained else "training")
        axes.plot(*curve(judged), color="#1f77b4", label="after" if "before" in trained else "heads not trained on")
        axes.set(title=title, xlabel="step")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    with output_file(path, (".png",), overwrite=True) as beside:
        figure.savefig(beside, dpi=90)
    plt.close(figure)
