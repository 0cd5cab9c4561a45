"""What every step of a registration looks at, and the score by which poses are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.vessels.alignment import zncc
from DeepIterRegLib.registration.vessels.points import Points, vessel_points
from DeepIterRegLib.registration.vessels.targets import FIND, View, make_targets, vessel_channels
from DeepIterRegLib.segmentation.dsa import DsaMasks

# Resolution of the score that is reported, and by which a proposed pose is compared with the radiological one (A eq. 12): a pixel is
# 2 to 3 mm of a usual detector, so that a pose some mm off still has a score.
ACCEPTANCE_ROWS, ACCEPTANCE_POINTS, ACCEPTANCE_SIGMA_PX = 128, 6000, 1.0
# The contrast of large vessels: brighter than all but so much of the valid image. It becomes sqrt(1/2) in `contrast_image`.
_FULL_CONTRAST_QUANTILE = 0.97


@dataclass(frozen=True)
class Head:
    """A CTA ready for registrations: what is made of it is made once, however many runs it is registered to.

    Attributes
    ----------
    cta
        As `prepare_cta` gives it.
    vessels
        Of the CTA, bool on its grid or another.
    bone
        Of the CTA, where it was begun before the vessels were known.
    """

    cta: Volume
    vessels: Volume
    bone: Skull | None = None

    @cached_property
    def points(self) -> Points:
        """Of the vessels."""
        return vessel_points(self.vessels)

    @cached_property
    def skull(self) -> Skull | None:
        """Looked for in no run yet; None where bone cannot be told."""
        return self.bone or bone_of(self.cta)

    def make_ready(self) -> None:
        """Make all that registrations will ask for, where there is time before the first."""
        with Beside() as beside:
            if self.skull is not None:
                self.skull.make_points(beside)
            self.points.subset(1, np.random.default_rng(0))  # and what points are drawn by


def bone_of(cta: Volume) -> Skull | None:
    """The CTA's skull, looked for in no run yet; None where the volume is not in HU, as bone cannot be told then."""
    return Skull(cta, ()) if cta.values == "HU" else None


@dataclass(frozen=True)
class Scene:
    """What every step looks at: the CTA's vessels, the views with the masks of each, and the skull."""

    points: Points
    views: tuple[View, ...]
    centre_cta_mm: np.ndarray
    cta_vessels: Volume
    dsa_masks: tuple[DsaMasks, ...]
    skull: Skull | None = None


def scene_znccs(scene: Scene, poses: np.ndarray, saturation_mm: float, seed: int) -> np.ndarray:
    """ZNCC (K,) of vessels and directions at poses (K, 4, 4), as it is reported: mean of the views."""
    mean: np.ndarray = view_znccs(scene, poses, saturation_mm, seed).mean(axis=0)
    return mean


def view_znccs(scene: Scene, poses: np.ndarray, saturation_mm: float, seed: int) -> np.ndarray:
    """`scene_znccs` (V, K) of each view."""
    targets = make_targets(scene.views, ACCEPTANCE_ROWS, ACCEPTANCE_SIGMA_PX, FIND)
    drawn = scene.points.subset(ACCEPTANCE_POINTS, np.random.default_rng(seed))
    return np.stack([zncc(drawn, poses, target, saturation_mm) for target in targets])


def make_scene(
    cta_vessels: Volume,
    angiograms: Sequence[Angiogram],
    masks: Sequence[DsaMasks],
    centre_cta_mm: np.ndarray,
    points: Points | None = None,
) -> Scene:
    """What is registered: the vessels of the CTA, and those of each run; `centre_cta_mm` (3,), RAS mm of the CTA.

    `points` are those of the vessels where they are made already.

    Raises
    ------
    InputError
        A mask without vessels.
    """
    points = points or vessel_points(cta_vessels)
    problems, views = [], []
    for number, (run, found) in enumerate(zip(angiograms, masks, strict=True), 1):
        if not np.any(found.vesselness[run.valid] > 0):
            which = "The DSA's vessel mask" if len(angiograms) == 1 else f"The vessel mask of DSA {number}"
            problems.append(Message(f"{which} is empty: check the frames", give=("dsa_mask",)))
            continue
        views.append(View(vessel_channels(contrast_image(found, run.valid), run.valid), run.valid, run.carm))
    if problems:
        raise InputError(problems)
    return Scene(points, tuple(views), centre_cta_mm, cta_vessels, tuple(masks))


def contrast_image(masks: DsaMasks, valid: np.ndarray) -> np.ndarray:
    """Contrast of the MinIP inside the vessel mask (row, column), 0..1, compressed so that branches count beside trunks.

    The contrast's 97th percentile over all valid pixels becomes 0.71, half of it 0.58.
    """
    contrast = np.maximum(-masks.minip, 0)
    full = max(float(np.quantile(contrast[valid], _FULL_CONTRAST_QUANTILE)), 1e-9)  # 0 where no contrast is seen at all
    image: np.ndarray = np.sqrt(contrast / (contrast + full)) * masks.vessels
    return image
