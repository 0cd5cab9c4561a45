"""Plots of an analysis as SVG, to stand in a page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.studies.reader_study.ranks import EQUAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from DeepIterRegLib.studies.reader_study.analysis import Analysis

COLOURS = (
    "#c05a13",
    "#f0b072",
    "#d5d5d5",
    "#8db7dc",
    "#1f63a5",
)  # from second definitely better to first definitely better
SCORES = ("second definitely better", "second better", "the same", "first better", "first definitely better")


def preference_svg(analysis: Analysis) -> str:
    """Bars: how often each method was preferred."""
    figure = _figure(height_in=0.7 + 0.36 * len(analysis.preferred))
    axes = figure.subplots()
    names = ["no preference" if name == EQUAL else _as_text(name) for name in analysis.preferred]
    counts = list(analysis.preferred.values())
    colours = [COLOURS[2] if name == EQUAL else COLOURS[4] for name in analysis.preferred]
    axes.bar_label(axes.barh(names, counts, color=colours, height=0.7), padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max(counts))
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("answers")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def scores_svg(analysis: Analysis) -> str:
    """Bars about a middle line: for each pair how many answers had each score, those for the first method to the right."""
    figure = _figure(height_in=1.3 + 0.5 * len(analysis.rank_counts))
    axes = figure.subplots()
    names = [_as_text(name) for name in analysis.rank_counts]
    for row, counts in enumerate(analysis.rank_counts.values()):
        left = -(counts[0] + counts[1] + counts[2] / 2)
        for score, count in enumerate(counts):
            axes.barh(row, count, left=left, color=COLOURS[score], height=0.7, label=SCORES[score] if not row else None)
            if count:
                ink = "white" if score in (0, 4) else "black"
                axes.text(left + count / 2, row, str(count), ha="center", va="center", color=ink)
            left += count
    axes.axvline(0, color="0.35", lw=0.8)
    widest = max(map(abs, axes.get_xlim()))
    axes.set_xlim(-widest, widest)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_xlabel("answers: for the second method | for the first method")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return _svg(figure)


def _as_text(name: str) -> str:
    """A name that people chose, as matplotlib shows it letter by letter: between two dollars it would read formulas."""
    return name.replace("$", r"\$")


def _figure(height_in: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(
            "The page's plots need matplotlib: install it with pip install 'deepiterreg[plots]'."
        ) from error
    return Figure(figsize=(7.2, height_in), layout="constrained")


def _svg(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    # Text stays text; the same answers give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deepiterreg", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
