"""What a person without Slicer sees of a registration: a page, a picture, a projection, a transform."""

from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.results.report.images import vessel_projection, write_overlay
from DeepIterRegLib.results.report.outputs import (
    REGISTRATION_FILES,
    files_of_frames,
    registration_files,
    write_registration,
)
from DeepIterRegLib.results.report.page import write_report

__all__ = [
    "REGISTRATION_FILES",
    "detector_image",
    "files_of_frames",
    "registration_files",
    "vessel_projection",
    "write_overlay",
    "write_registration",
    "write_report",
]
