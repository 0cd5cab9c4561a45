"""Draw DeepIterReg.png: the vessels of a CT, red, over those of an angiogram, on its detector.

python Resources/Icons/draw_icon.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE, FINE = 128, 8  # px; drawn that much larger, then shrunk
DETECTOR, FRAME, RUN, CT = (24, 34, 48), (126, 150, 176), (222, 230, 238), (236, 44, 44)

# Curves by their control points in a unit square, and their width at start and end: carotid, its two branches, and theirs.
TREE = (
    ((0.36, 0.97), (0.34, 0.80), (0.52, 0.74), (0.46, 0.54), 0.100, 0.088),
    ((0.46, 0.54), (0.45, 0.42), (0.30, 0.40), (0.22, 0.14), 0.076, 0.044),
    ((0.46, 0.54), (0.56, 0.44), (0.66, 0.52), (0.84, 0.36), 0.084, 0.050),
    ((0.68, 0.455), (0.72, 0.36), (0.62, 0.26), (0.64, 0.13), 0.060, 0.040),
)


def draw_tree(
    draw: ImageDraw.ImageDraw, shift: tuple[float, float], colour: tuple[int, int, int], wider: float
) -> None:
    """Discs along each curve."""
    scale = SIZE * FINE
    for *points, start, end in TREE:
        p = np.array(points)
        for t in np.linspace(0, 1, 200):
            weights = np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
            x, y = (weights @ p + shift) * scale
            radius = ((1 - t) * start + t * end + wider) / 2 * scale
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def main() -> None:
    """Write the icon beside this file."""
    side = SIZE * FINE
    inside = Image.new("L", (side, side), 0)
    ImageDraw.Draw(inside).rounded_rectangle(
        (5 * FINE, 5 * FINE, side - 5 * FINE, side - 5 * FINE), 14 * FINE, fill=255
    )
    picture = Image.new("RGB", (side, side), DETECTOR)
    draw = ImageDraw.Draw(picture)
    draw_tree(draw, (0.085, 0.0), RUN, 0.0)
    draw_tree(draw, (-0.02, 0.0), DETECTOR, 0.035)
    draw_tree(draw, (-0.02, 0.0), CT, 0.0)
    icon = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    icon.paste(picture, mask=inside)
    ImageDraw.Draw(icon).rounded_rectangle(
        (4 * FINE, 4 * FINE, side - 4 * FINE, side - 4 * FINE), 15 * FINE, outline=(*FRAME, 255), width=5 * FINE
    )
    icon.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(Path(__file__).with_name("DeepIterReg.png"), optimize=True)


if __name__ == "__main__":
    main()
