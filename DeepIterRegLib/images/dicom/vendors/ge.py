"""GE: the frame's geometry in the group GEMS_DL_FRAME_01."""

from DeepIterRegLib.images.dicom.vendors import PrivateValue

VALUES = (
    PrivateValue("sid_mm", "GEMS_DL_FRAME_01", 0x0025, 0x03),
    PrivateValue("sod_mm", "GEMS_DL_FRAME_01", 0x0025, 0x04),
    PrivateValue("primary_angle_deg", "GEMS_DL_FRAME_01", 0x0025, 0x06),
    PrivateValue("secondary_angle_deg", "GEMS_DL_FRAME_01", 0x0025, 0x07),
)
