"""The drawings that experiments share, by matplotlib, without its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.studies.experiments.metrics import CaptureRange

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#7f7f7f", "#d62728", "#17becf")
BAD = "#d62728"
# Errors are drawn no smaller and no larger: a logarithmic axis has no 0, and refused ones are not finite.
_SHOWN_MM = 0.02, 400
_MOST_PX = 150.0  # medians are drawn up to here
_LIMITS_MM = (0, 10, 201)  # from, to, how many
_MANY = 8  # curves of a group, from which they are drawn thin
_CONTOURS = 12  # about: as many as are still told apart
_LABEL_PT = 6.0


def figure(
    width: float = 6.4, height: float = 4.2, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure and its axes (one, or an array), inches."""
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(rows, columns, **options)
    for one in np.atleast_1d(axes).ravel():
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25)
    return made, axes


def before_after(
    groups: Mapping[str, tuple[np.ndarray, np.ndarray]],
    labels: Sequence[str] = (),
    unit: str = "mm",
    limit: float = SUCCESS_MM,
) -> Figure:
    """MPE (N,) after against (N,) before of each group, logarithmic; `labels` name the points of the last group (A Fig. 13)."""
    made, axes = figure()
    for (name, (before, after)), colour in zip(groups.items(), COLOURS, strict=False):
        shown = np.clip(after, *_SHOWN_MM)
        axes.plot(before, shown, "o", ms=4, alpha=0.75, color=colour, label=name, rasterized=True)
    axes.axhline(limit, color="0.6", lw=1)
    axes.set(xlabel=f"MPE before, {unit}", ylabel=f"MPE after, {unit}", yscale="log")
    legend(made)
    if labels:
        _name(made, axes, np.stack([before, shown], axis=1), labels)
    return made


def _name(made: Figure, axes: Any, points: np.ndarray, labels: Sequence[str], size: float = _LABEL_PT) -> None:
    """Write names beside points (N, 2), where they cover neither a point nor another name, further off if need be."""
    made.draw_without_rendering()  # settles where the axes lie
    at = axes.transData.transform(points) * 72 / made.dpi
    # A name may hide no point and no other name: places further and further off are tried.
    taken = [(x - 2, y - 2, x + 2, y + 2) for x, y in at]
    for (x, y), point, text in zip(at, points, labels, strict=True):
        wide, high = 0.6 * size * len(text), size
        places = [(d * dx, d * dy) for d in (4, 9, 15, 22) for dy in (0.6, -0.6, 0, 1, -1) for dx in (1, -1)]
        boxes = []
        for dx, dy in places:
            left = x + dx if dx > 0 else x + dx - wide
            boxes.append((left, y + dy - high / 2, left + wide, y + dy + high / 2))
        free = (n for n, b in enumerate(boxes) if not any(_overlap(b, other) for other in taken))
        n = next(free, len(places) - 1)
        taken.append(boxes[n])
        axes.annotate(
            text,
            point,
            xytext=places[n],
            textcoords="offset points",
            fontsize=size,
            color="0.35",
            ha="left" if places[n][0] > 0 else "right",
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.6"} if n >= 10 else None,
        )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def success(errors_mm: Mapping[str, np.ndarray], label: str = "MPE") -> Figure:
    """Share of registrations, whose errors are (N,) in each group, below each limit up to 10 mm."""
    made, axes = figure(5.8, 4.6)
    limits = np.linspace(*_LIMITS_MM)
    for (name, errors), colour in zip(errors_mm.items(), COLOURS, strict=False):
        share = [100 * float((np.asarray(errors) < limit).mean()) for limit in limits]
        axes.plot(limits, share, color=colour, label=name)
    axes.axvline(SUCCESS_MM, color="0.6", lw=1)
    axes.set(xlabel=f"limit of {label}, mm", ylabel="registrations below, %", xlim=(0, 10), ylim=(0, 102))
    legend(made)
    return made


def capture(
    ranges: Mapping[str, CaptureRange], limit: float, paper_px: Mapping[str, float], most: float = _MOST_PX
) -> Figure:
    """Median after against before, bins of equal count, with their 95 % bands, and the paper's ranges (A Fig. 8 and 12)."""
    made, axes = figure(6.6, 5.2)
    for (name, found), colour in zip(ranges.items(), COLOURS, strict=False):
        middles = [b.middle for b in found.bins]
        low, high = (np.minimum([b.band[side] for b in found.bins], most) for side in (0, 1))
        axes.fill_between(middles, low, high, color=colour, alpha=0.18, lw=0)
        medians = np.minimum([b.median_after for b in found.bins], most)
        axes.plot(middles, medians, "-o", ms=4, color=colour, label=f"{name} ({found.reach:.0f} px)")
    for (name, reach), style in zip(paper_px.items(), (":", "-."), strict=False):
        axes.axvline(reach, color="0.35", lw=1.2, ls=style, label=f"paper A, {name} ({reach:.0f} px)")
    axes.axhline(limit, color="0.6", lw=1)
    axes.set(xlabel="MPE before, px", ylabel="median MPE after, px", yscale="symlog")
    axes.set_yticks([0, 1, 2, 5, 10, 20, 50, 100])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    legend(made)
    return made


def traces(
    groups: Mapping[str, tuple[Sequence[float], np.ndarray]],
    ylabel: str,
    *,
    log: bool = False,
    xlabel: str = "iteration",
) -> Figure:
    """Curves (iterations, N) of each group over their iterations, in one colour each; many curves are drawn thin."""
    made, axes = figure()
    for (name, (steps, values)), colour in zip(groups.items(), COLOURS, strict=False):
        many = values.shape[1] > _MANY
        lines = axes.plot(
            steps, values, color=colour, lw=0.6 if many else 1.2, alpha=0.25 if many else 0.9, rasterized=many
        )
        if lines:
            axes.plot([], [], color=colour, label=name)
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    legend(made)
    return made


def landscapes(grids: Mapping[tuple[str, str], np.ndarray], ranges: Mapping[str, float], label: str) -> Figure:
    """Loss (steps, steps) over pairs of axes as contours: a triangle of panels.

    `ranges` are half widths by axis name, deg of turns and mm of shifts.
    """
    from matplotlib.ticker import MaxNLocator

    names = list(ranges)
    made = Figure(figsize=(10, 9.4), layout="constrained")
    axes = np.atleast_2d(made.subplots(len(names) - 1, len(names) - 1))
    levels = MaxNLocator(_CONTOURS).tick_values(
        min(float(grid.min()) for grid in grids.values()), max(float(grid.max()) for grid in grids.values())
    )
    for one in axes.ravel():
        one.set_visible(False)
    for (across, down), grid in grids.items():
        one = axes[names.index(down) - 1, names.index(across)]
        one.set_visible(True)
        x, y = (np.linspace(-ranges[name], ranges[name], n) for name, n in zip((across, down), grid.shape, strict=True))
        shown = one.contourf(x, y, grid.T, levels=levels, cmap="viridis")
        one.plot(0, 0, "w+", ms=7)
        one.tick_params(labelsize=7)
        if down == names[-1]:
            one.set_xlabel(with_unit(across), fontsize=8)
        if across == names[0]:
            one.set_ylabel(with_unit(down), fontsize=8)
    made.colorbar(shown, ax=axes, shrink=0.5, pad=0.02, anchor=(0.0, 1.0), label=label)
    return made


def with_unit(axis: str) -> str:
    """An axis of a pose, `turn` or `shift`, with deg or mm."""
    return f"{axis}, {'deg' if axis.startswith('turn') else 'mm'}"


def legend(made: Figure, columns: int = 2) -> None:
    """Below the axes, where it hides nothing, if it tells anything apart."""
    handles, labels = made.axes[0].get_legend_handles_labels()
    if len(handles) > 1:
        made.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
