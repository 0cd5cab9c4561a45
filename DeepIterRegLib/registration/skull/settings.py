"""How the skull is found: the box and its grid, and the levels from coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from DeepIterRegLib.registration.vessels.exhaustive import SearchBox

# What a second, closer look changes. Of the 5 hardest of 54 development views the first look finds 1, such a look 4;
# a finer step than 7 deg or more candidates still find no more, and take up to half as long again.
_FINER_STEP, _MORE_CANDIDATES, _MORE_KEPT = 0.7, 2, 3
# By the residue of moved bone the first pose within 25 mm is among the best five of 35 of 36 development views.
_RESIDUE_CANDIDATES, _RESIDUE_KEPT = 24, (6, 4)


@dataclass(frozen=True)
class SkullLevel:
    """One resolution: image rows, size of the skull's blocks, blur, steps, poses that stay afterwards.

    `by_movement`: of what moved bone left, all of the skull's movements are asked, and not one direction for the whole image.
    """

    rows: int
    spacing_mm: float
    sigma_px: float
    iterations: int
    keep: int
    by_movement: bool = False


@dataclass(frozen=True)
class SkullSettings(SearchBox):
    """How the skull is found.

    A coarser rotation grid than that of the vessels is enough: with steps of 10 deg the first pose within 25 mm is among the
    best two, with 12 deg among the best five, and 8 deg find no more.

    Attributes
    ----------
    rows, spacing_mm, sigma_px
        Grid, blocks and blur of the exhaustive pass.
    candidates
        Poses kept from it.
    levels
        Refinement from coarse to fine. A first level with more blur has its optimum 6 to 12 mm from the truth and lets
        others win.
    knee
        An edge this many times as strong as the mean one counts half of its strength. At 1 wrong poses outscore the truth.
    """

    rotation_step_deg: float = 10.0
    rows: int = 96
    spacing_mm: float = 4.0
    sigma_px: float = 1.0
    candidates: int = 64
    levels: tuple[SkullLevel, ...] = (
        SkullLevel(96, 4.0, 1.0, 8, 16),
        SkullLevel(128, 3.0, 1.0, 8, 4),
        SkullLevel(192, 1.8, 1.0, 8, 1),
    )
    knee: float = 5.0

    @property
    def coarse(self) -> SkullLevel:
        """The exhaustive pass as a level, which takes no steps."""
        return SkullLevel(self.rows, self.spacing_mm, self.sigma_px, 0, self.candidates)

    def in_residue(self) -> SkullSettings:
        """The same box where only the residue of moved bone shows the skull: less is seen, and at the last level the movement itself."""
        first, second, *_ = self.levels
        levels = replace(first, keep=_RESIDUE_KEPT[0]), replace(second, keep=_RESIDUE_KEPT[1])
        return replace(self, candidates=_RESIDUE_CANDIDATES, levels=levels)

    def finer(self) -> SkullSettings:
        """The same box with a finer grid and more poses kept, for where the first look finds no clear fit."""
        *several, last = self.levels
        return replace(
            self,
            rotation_step_deg=_FINER_STEP * self.rotation_step_deg,
            candidates=_MORE_CANDIDATES * self.candidates,
            levels=(*(replace(level, keep=_MORE_KEPT * level.keep) for level in several), last),
        )
