"""The panel's label of each option; made by `make docs` from their declarations, so that they can be translated."""

from slicer.i18n import tr as _


def labels() -> dict[str, str]:
    """By the option's id."""
    return {
        "cta": _("CTA"),
        "cta_mask": _("CTA vessels"),
        "cta_vein_mask": _("CTA veins"),
        "landmarks": _("Points on the CTA"),
        "dsa_landmarks": _("Points on the DSA"),
        "reference": _("Reference transform"),
        "dsa": _("DSA"),
        "mask_frames": _("Mask frames"),
        "contrast": _("Vessels are"),
        "dsa_mask": _("DSA vessels"),
        "primary_angle": _("Primary angle"),
        "secondary_angle": _("Secondary angle"),
        "sid": _("Source to detector"),
        "sod": _("Source to isocentre"),
        "pixel_spacing": _("Pixel spacing"),
        "principal_point": _("Principal point"),
        "contrast_hu": _("Threshold above brain"),
        "subtraction": _("Subtraction"),
        "first_frame": _("First frame"),
        "last_frame": _("Last frame"),
        "init": _("Start from"),
        "weights": _("Weights file"),
        "preset": _("Preset"),
        "refine_geometry": _("Refine geometry"),
        "between_runs": _("Moved between runs"),
        "device": _("Device"),
        "seed": _("Seed"),
    }
