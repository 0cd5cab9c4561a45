"""Scores of a stage as small inline SVG drawings that follow the page's colours: a curve over iterations, or a bar for each level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from DeepIterRegLib.registration.result import StageRecord

WIDTH, HEIGHT = 320, 120
MAX_DOTS = 12
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22


def level_names(stage: StageRecord, settings: Mapping[str, Any]) -> list[str]:
    """What each score of a stage belongs to, if that is a level from coarse to fine: the rows of its image, for example "256 rows".

    Scores of different levels do not compare, so they are named and not joined. Empty for a stage with a score an iteration.

    Parameters
    ----------
    stage
    settings
        Of the registration, as in `Registration.settings`.
    """
    # Stages that step record every step; stages by levels record a score a level.
    if len(stage.scores) >= stage.iterations:
        return []
    if stage.name == "Network":
        return ["from the start", "best of all"]
    search = settings.get("search", {})
    levels = {
        "Search": [search, *search.get("levels", ())],
        "Network, refined": search.get("levels", ()),
        "MinIP, coarse": settings.get("near_levels", ()),
        "MinIP": settings.get("levels", ()),
    }.get(stage.name, ())
    if len(levels) != len(stage.scores):
        return [f"level {n}" for n in range(1, len(stage.scores) + 1)]
    return [f"{level['rows']} rows" for level in levels]


def bars_svg(scores: Sequence[float], names: Sequence[str], label: str) -> str:
    """A bar from 0 for each score as an SVG element, with its value above and its name below."""
    low, high = min(0.0, *scores), max(1e-6, *scores)
    step = (WIDTH - 2 * RIGHT) / len(scores)
    scale = (HEIGHT - TOP - 2 * BOTTOM) / (high - low)
    zero = TOP + BOTTOM + scale * high
    bars = []
    for n, (score, name) in enumerate(zip(scores, names, strict=True)):
        middle, top = RIGHT + (n + 0.5) * step, zero - scale * max(score, 0.0)
        width = min(0.6 * step, 36)
        bars.append(
            f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{scale * abs(score):.1f}"/>'
            f'<text x="{middle:.1f}" y="{top - 5:.1f}" text-anchor="middle">{_number(score)}</text>'
            f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{name}</text>'
        )
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<line class="grid" x1="{RIGHT}" x2="{WIDTH - RIGHT}" y1="{zero:.1f}" y2="{zero:.1f}"/>{"".join(bars)}</svg>'
    )


def curve_svg(scores: Sequence[float], label: str) -> str:
    """One trace of scores as an SVG element; empty if there is nothing to draw. Few scores get a dot each."""
    finite = [float(s) for s in scores if s == s and abs(s) != float("inf")]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    middle = (low + high) / 2
    # A trace that stands still is a line in the middle, not its rounding blown up to the full height.
    half = max((high - low) / 2, 1e-4 * max(1.0, abs(middle)))
    points = [(i, s) for i, s in enumerate(scores) if s in finite]
    # The drawing is 320 wide: more points only make the page larger.
    thinned = points[:: max(1, len(points) // 400)]
    # The last score is the result, so it is always drawn.
    if thinned[-1] != points[-1]:
        thinned.append(points[-1])
    last = max(1, len(scores) - 1)

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * i / last

    def y(s: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (0.5 - (s - middle) / (2 * half))

    path = " ".join(f"{x(i):.1f},{y(s):.1f}" for i, s in thinned)
    dotted = thinned if len(thinned) <= MAX_DOTS else thinned[-1:]
    dots = "".join(f'<circle cx="{x(i):.1f}" cy="{y(s):.1f}" r="3"/>' for i, s in dotted)
    ticks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(s):.1f}" y2="{y(s):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(s) + 3.5:.1f}" text-anchor="end">{_number(s)}</text>'
        for s in (middle - half, middle + half)
    )
    return (
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{ticks}'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{len(scores) - 1}</text>'
        f'<polyline points="{path}"/>{dots}</svg>'
    )


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
