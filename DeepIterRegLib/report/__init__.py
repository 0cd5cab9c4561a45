"""What a person without Slicer sees of a registration: a page, a picture, a projection, a transform."""

from DeepIterRegLib.report.images import vessel_projection, write_overlay
from DeepIterRegLib.report.outputs import REGISTRATION_FILES, detector_image, registration_files, write_registration
from DeepIterRegLib.report.page import write_report

__all__ = [
    "REGISTRATION_FILES",
    "detector_image",
    "registration_files",
    "vessel_projection",
    "write_overlay",
    "write_registration",
    "write_report",
]
