"""What a person without Slicer sees of a registration: a page, a picture and a projection."""

from DeepIterRegLib.report.images import vessel_projection, write_overlay
from DeepIterRegLib.report.page import write_report

__all__ = ["vessel_projection", "write_overlay", "write_report"]
