"""What tags say of grey values: whether bone and contrast, which let less X-ray through, have the smaller ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from DeepIterRegLib.common.shown import number_words
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.safe_words import coded
from DeepIterRegLib.images.dicom.tags import tag_name

# Of PresentationLUTShape, what fits each PhotometricInterpretation (PS3.3 C.8.11.3.1.2).
_FITTING_SHAPE = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


@dataclass(frozen=True)
class ContrastTags:
    """The tags' reading of the grey values.

    Attributes
    ----------
    dark_is_low
        Bone and contrast have the smaller stored values.
    certain
        A tag says so; else it is what is usual: angiograms are shown with dark vessels.
    shown_inverted
        Viewers show small values bright (MONOCHROME1).
    why
        The tags concerned, for a sentence.
    """

    dark_is_low: bool
    certain: bool
    shown_inverted: bool
    why: str

    def shown(self, dark_is_low: bool) -> Literal["dark", "bright"]:
        """How vessels look in a viewer if contrast has small values, or large ones."""
        return "dark" if dark_is_low != self.shown_inverted else "bright"

    def dark_is_low_if(self, shown: Literal["dark", "bright"]) -> bool:
        """Inverse of `shown`."""
        return (shown == "dark") != self.shown_inverted


NO_TAGS = ContrastTags(True, False, False, "The image has no tags")


def read_contrast_tags(header: Header) -> ContrastTags:
    """PixelIntensityRelationshipSign decides; without it the display does: PhotometricInterpretation, PresentationLUTShape."""
    sign = header.number("PixelIntensityRelationshipSign")
    photometric = coded(header.text("PhotometricInterpretation"))
    inverted = photometric == "MONOCHROME1"
    if sign:
        return ContrastTags(
            sign > 0, True, inverted, f"{tag_name('PixelIntensityRelationshipSign')} is {number_words(sign)}"
        )
    why = f"{tag_name('PixelIntensityRelationshipSign')} is absent, {tag_name('PhotometricInterpretation')} is {photometric}"
    shape = header.text("PresentationLUTShape")
    if shape and shape != _FITTING_SHAPE.get(photometric):
        why += f", against which {tag_name('PresentationLUTShape')} is {coded(shape)}"
    return ContrastTags(not inverted, False, inverted, why)
