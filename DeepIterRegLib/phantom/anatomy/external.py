"""The external carotid: outside the skull, never injected here, but in every CTA."""

from __future__ import annotations

from DeepIterRegLib.phantom.anatomy.pen import Course, Pen, Side

_TRUNK: Course = [[24, -9, -102], [32, -6, -80], [45, -8, -60], [52, -6, -45]]
_END_BRANCHES: tuple[Course, ...] = (
    [[66, -2, -28], [70, 0, -8], [71, 8, 15], [64, 22, 45]],  # superficial temporal, frontal branch
    [[70, -10, 0], [74, -22, 25], [66, -35, 55]],  # superficial temporal, parietal branch
    [[38, 12, -42], [26, 24, -38], [14, 34, -40]],  # maxillary
)
_FACIAL: Course = [[40, 15, -88], [44, 38, -80], [30, 58, -60], [18, 66, -40]]
_OCCIPITAL: Course = [[50, -35, -55], [50, -66, -48], [38, -95, -25], [28, -106, 5]]
_MENINGEAL: Course = [[36, -4, -28], [48, 0, -20], [63, 2, 5], [62, -5, 35]]


def external_carotid(pen: Pen, side: Side) -> None:
    """Trunk, temporal, maxillary, facial, occipital and middle meningeal artery of one side."""
    trunk = pen.lay(-1, _TRUNK, (1.9, 1.4), f"{side.name}_ECA", 1.5)
    branch = f"{side.name}_ECA_branch"
    for course in _END_BRANCHES:
        pen.lay(trunk[-1], course, (1.0, 0.5), branch, 2.0)
    pen.lay(trunk[len(trunk) // 3], _FACIAL, (1.1, 0.6), branch, 2.0)
    pen.lay(trunk[len(trunk) // 2], _OCCIPITAL, (1.1, 0.5), branch, 2.0)
    pen.lay(trunk[-4], _MENINGEAL, (0.7, 0.4), f"{side.name}_meningeal", 1.0)
