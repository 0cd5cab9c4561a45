"""Siemens: acquisition values in the group SIEMENS SMS-AX  ACQ 1.0 (two spaces, as the files have it)."""

from DeepIterRegLib.images.dicom.vendors import PrivateValue

VALUES = (PrivateValue("sod_mm", "SIEMENS SMS-AX  ACQ 1.0", 0x0021, 0x17),)
