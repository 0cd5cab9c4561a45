"""Score traces as small inline SVG drawings that follow the page's colours."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 320, 120
MOST_DOTS = 12
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22


def curve_svg(scores: Sequence[float], label: str) -> str:
    """One trace of scores as an SVG element; empty if there is nothing to draw. Few scores get a dot each."""
    finite = [float(s) for s in scores if s == s and abs(s) != float("inf")]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    middle = (low + high) / 2
    half = max((high - low) / 2, 1e-4 * max(1.0, abs(middle)))
    points = [(i, s) for i, s in enumerate(scores) if s in finite]
    thinned = points[:: max(1, len(points) // 400)]
    if thinned[-1] != points[-1]:
        thinned.append(points[-1])
    last = max(1, len(scores) - 1)

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * i / last

    def y(s: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (0.5 - (s - middle) / (2 * half))

    path = " ".join(f"{x(i):.1f},{y(s):.1f}" for i, s in thinned)
    dotted = thinned if len(thinned) <= MOST_DOTS else thinned[-1:]
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
