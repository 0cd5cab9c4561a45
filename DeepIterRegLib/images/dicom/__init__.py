"""Files to `Angiogram` and back. The only room that knows DICOM tags."""

from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.images.dicom.describe import describe
from DeepIterRegLib.images.dicom.reader import loaded_spacing_mm, read_angiogram
from DeepIterRegLib.images.dicom.writer import write_xa
from DeepIterRegLib.images.subtraction import SubtractionSettings

__all__ = ["GeometryOptions", "SubtractionSettings", "describe", "loaded_spacing_mm", "read_angiogram", "write_xa"]
