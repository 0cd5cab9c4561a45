"""Files to `Angiogram` and back. The only room that knows DICOM tags."""

from DeepIterRegLib.dicom.options import GeometryOptions
from DeepIterRegLib.dicom.writer import write_xa

__all__ = ["GeometryOptions", "write_xa"]
