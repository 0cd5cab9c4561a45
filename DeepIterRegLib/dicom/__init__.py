"""Files to `Angiogram` and back. The only room that knows DICOM tags."""

from DeepIterRegLib.dicom.describe import describe
from DeepIterRegLib.dicom.options import GeometryOptions
from DeepIterRegLib.dicom.reader import loaded_spacing_mm, read_angiogram
from DeepIterRegLib.dicom.writer import write_xa
from DeepIterRegLib.subtraction import SubtractionSettings

__all__ = ["GeometryOptions", "SubtractionSettings", "describe", "loaded_spacing_mm", "read_angiogram", "write_xa"]
