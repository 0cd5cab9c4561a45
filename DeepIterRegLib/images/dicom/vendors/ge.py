"""GE: the frame's geometry in the groups GEMS_DL_FRAME_01 and GEMS_DL_IMG_01, by their names in pydicom's private dictionary."""

from DeepIterRegLib.images.dicom.vendors import PrivateTag, PrivateValue

VALUES = (
    PrivateValue("sid_mm", "GEMS_DL_FRAME_01", 0x0025, 0x03),
    PrivateValue("sod_mm", "GEMS_DL_FRAME_01", 0x0025, 0x04),
    PrivateValue("primary_angle_deg", "GEMS_DL_FRAME_01", 0x0025, 0x06),
    PrivateValue("secondary_angle_deg", "GEMS_DL_FRAME_01", 0x0025, 0x07),
)

TAGS = (
    PrivateTag("FieldOfViewOrigin", "GEMS_DL_FRAME_01", 0x0025, 0x33),  # "Fov Origin"
    PrivateTag("DetectorRows", "GEMS_DL_IMG_01", 0x0019, 0x42),  # "Detector Size Rows", in elements
    PrivateTag("DetectorColumns", "GEMS_DL_IMG_01", 0x0019, 0x43),
)
