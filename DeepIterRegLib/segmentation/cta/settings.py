"""Settings of the CTA's segmentation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.options import OPTIONS, Segmentation


@dataclass(frozen=True)
class CtaSegmentation:
    """Settings of `segment_vessels`.

    "Measured" is on phantoms 0 and 11, whose vessels are known.

    Attributes
    ----------
    working_spacing_mm
        Isotropic RAS grid on which vessels are found; the mask is then drawn on the CTA's own grid. About the width of a small artery.
    extent_below_vertex_mm
        How much of the patient below the top of the head is looked at: head and upper neck.
    bone_hu
        At or above this is bone; lowered to 1.3 times the brightest vessels deep in the brain (not below 400), as thin bone is dim.
    contrast_hu
        A vessel is at least this much brighter than brain, after smoothing by `smoothing_mm`.
    smoothing_mm
        Gaussian sigma against noise before candidates are picked.
    vesselness_sigmas_mm
        Scales of the tube filter used beside bone and outside the brain's cavity.
    vesselness_low_hu, vesselness_high_hu
        Hysteresis on the tube filter, whose unit is HU of contrast.
    near_bone_mm
        Within this distance of bone a bright voxel must also be open to the brain.
    min_openness
        Share of directions, from a bright voxel beside bone, in which brain follows; marrow, shut in by bone, has less. Measured: of the
        vessels' voxels in the cavity 95 % have more, in the rim three quarters of the others' have none.
    min_roundness
        Tube filter over contrast, beside bone: a tube has about 0.5, an edge or sheet of bone about 0. Measured: of the vessels' voxels in
        the cavity nine tenths have 0.28 and more.
    rim_mm
        How far into the wall of the brain's cavity sinuses are looked for.
    fill_mm
        How far a sinus that is seen in part is filled up to bone.
    min_component_mm3
        Smaller pieces are dropped.
    """

    working_spacing_mm: float = 0.7
    extent_below_vertex_mm: float = 220.0
    bone_hu: float = 600.0
    contrast_hu: float = OPTIONS["contrast_hu"].default
    smoothing_mm: float = 0.6
    vesselness_sigmas_mm: tuple[float, ...] = (0.9, 1.6, 2.8)
    vesselness_low_hu: float = 12.0
    vesselness_high_hu: float = 35.0
    near_bone_mm: float = 4.0
    rim_mm: float = 8.0
    fill_mm: float = 3.0
    min_openness: float = 0.45
    min_roundness: float = 0.3
    min_component_mm3: float = 40.0

    @classmethod
    def of(cls, chosen: Segmentation) -> CtaSegmentation:
        """What a person's choices stand for."""
        return cls(contrast_hu=chosen.contrast_hu)

    def __post_init__(self) -> None:
        problems = []
        if not 0.3 <= self.working_spacing_mm <= 2:
            problems.append(f"working_spacing_mm is {self.working_spacing_mm:g}; 0.3 to 2 make sense.")
        if not self.extent_below_vertex_mm >= 80:
            problems.append(f"extent_below_vertex_mm is {self.extent_below_vertex_mm:g}; a head needs at least 80.")
        if not 300 <= self.bone_hu <= 1500:
            problems.append(f"bone_hu is {self.bone_hu:g}; 300 to 1500 make sense.")
        if not 20 <= self.contrast_hu < self.bone_hu:
            problems.append(
                f"contrast_hu is {self.contrast_hu:g}; it must be at least 20 and below bone_hu ({self.bone_hu:g})."
            )
        if not self.vesselness_sigmas_mm or not all(0.3 <= s <= 6 for s in self.vesselness_sigmas_mm):
            problems.append(
                f"vesselness_sigmas_mm is {self.vesselness_sigmas_mm}; one or more of 0.3 to 6 mm are needed."
            )
        if list(self.vesselness_sigmas_mm) != sorted(set(self.vesselness_sigmas_mm)):
            problems.append(f"vesselness_sigmas_mm is {self.vesselness_sigmas_mm}; give them rising.")
        if not 0 <= self.smoothing_mm < min(self.vesselness_sigmas_mm, default=math.inf):
            problems.append(
                f"smoothing_mm is {self.smoothing_mm:g}; it must be 0 or more and below the first of vesselness_sigmas_mm."
            )
        if not 0 < self.vesselness_low_hu <= self.vesselness_high_hu:
            problems.append(
                f"vesselness_low_hu ({self.vesselness_low_hu:g}) must be above 0 and not above "
                f"vesselness_high_hu ({self.vesselness_high_hu:g})."
            )
        if not self.near_bone_mm >= 0 or not self.min_component_mm3 >= 0:
            problems.append("near_bone_mm and min_component_mm3 must not be negative.")
        if problems:
            raise InputError(problems)
