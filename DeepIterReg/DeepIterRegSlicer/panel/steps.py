"""The steps of a registration and of a preview, in the panel's words."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _

from DeepIterRegLib.registration.steps import Step


def stepWords() -> dict[Enum, str]:
    """What the progress bar and the plot of scores call each step, in the language of the application."""
    return {
        Step.LOAD: _("Load"),
        Step.LOAD_NETWORK: _("Load PyTorch"),
        Step.READ_POSES: _("Read poses"),
        Step.READ_DSA: _("Read DSA"),
        Step.READ_CTA: _("Read CTA"),
        Step.SEGMENT_CTA: _("Segment CTA"),
        Step.SEGMENT_VEINS: _("Segment veins"),
        Step.SEGMENT_DSA: _("Segment DSA"),
        Step.COMPILE: _("Compile, first time"),
        Step.CHECK_INPUTS: _("Check inputs"),
        Step.SKULL: _("Skull"),
        Step.SKULL_FINER: _("Skull, finer grid"),
        Step.NETWORK: _("Network"),
        Step.SEARCH: _("Search"),
        Step.REFINE_SKULL: _("Skull, refined"),
        Step.REFINE_NETWORK: _("Network, refined"),
        Step.REFINE_EARLIER: _("Earlier runs, refined"),
        Step.REFINE_COARSE: _("MinIP, coarse"),
        Step.REFINE: _("MinIP"),
        Step.REFINE_WITH_SKULL: _("Vessels and skull"),
        Step.MASK_STAGE: _("Paper: vessel mask"),
        Step.MINIP_STAGE: _("Paper: MinIP"),
        Step.CORRECT_VIEWS: _("Correct views"),
        Step.CONFIDENCE: _("Confidence"),
        Step.EACH_VIEW: _("Each view alone"),
        Step.FRAMES: _("Motion within the run"),
        Step.PREPARE_VIEWS: _("Prepare images"),
    }
