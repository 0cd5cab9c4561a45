"""A registration on its way to other systems: transforms, cameras, DICOM, films."""
