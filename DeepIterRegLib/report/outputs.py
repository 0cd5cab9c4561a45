"""The files of one registration, written into a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from DeepIterRegLib.angiogram import Angiogram
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration import Registration
from DeepIterRegLib.report.images import vessel_projection, write_overlay
from DeepIterRegLib.report.page import is_rejected, write_report
from DeepIterRegLib.transforms import write_tfm
from DeepIterRegLib.volume import Volume, save_volume

REGISTRATION_FILES = ("registration.json", "ctaToCarm.tfm", "overlay.png", "projection.nii.gz", "report.html")


def write_registration(folder: Path, registration: Registration, angiogram: Angiogram, vessels: Volume) -> None:
    """Write `REGISTRATION_FILES` into an existing folder (see `output.output_folder`).

    Parameters
    ----------
    folder
    registration
    angiogram
        The DSA that was registered.
    vessels
        The CTA's vessel mask that was registered.
    """
    carm = registration.carm
    projection = vessel_projection(vessels, carm, registration.cta_to_carm)
    start = pose.radiological(np.asarray(registration.centre_cta_mm, dtype=np.float64))
    radiological = vessel_projection(vessels, carm, start)
    text = json.dumps(registration.to_json_dict(), indent=2, allow_nan=False)
    (folder / "registration.json").write_text(text + "\n", encoding="utf-8")
    write_tfm(folder / "ctaToCarm.tfm", registration.cta_to_carm)
    save_volume(detector_image(projection, carm), folder / "projection.nii.gz")
    stamp = "REJECTED: do not rely on this overlay" if is_rejected(registration) else ""
    write_overlay(folder / "overlay.png", angiogram, projection, stamp=stamp)
    write_report(folder / "report.html", registration, angiogram, projection, radiological)


def detector_image(image: np.ndarray, carm: CArm) -> Volume:
    """An image (row, column) as a volume of one slice that stands where the detector stood, C-arm RAS mm."""
    row_spacing, column_spacing = carm.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(carm.column_axis) * column_spacing
    affine[:3, 1] = np.array(carm.row_axis) * row_spacing
    affine[:3, 2] = np.cross(carm.column_axis, carm.row_axis)
    affine[:3, 3] = carm.pixel_positions(np.zeros((1, 2)))[0]
    return Volume(np.ascontiguousarray(image)[None], affine)
