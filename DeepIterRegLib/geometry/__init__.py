"""C-arm and poses. Frames and formulas: see the docstrings of `carm` and `pose`; RAS mm throughout, LPS only in `lps`."""

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.carm import CArm
from DeepIterRegLib.geometry.lps import from_manual_tool, lps_ras, voxel_affine_lps_ras
from DeepIterRegLib.geometry.mpe import SUCCESS_MM, cube_corners, mpe_mm

__all__ = [
    "SUCCESS_MM",
    "CArm",
    "cube_corners",
    "from_manual_tool",
    "lps_ras",
    "mpe_mm",
    "pose",
    "voxel_affine_lps_ras",
]
