"""XA and image files into the scene, as the DICOM module would put them there, with the header that registration needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.view_names import view_direction
from DeepIterRegLib.images.dicom.decoding import check_decodable, decode
from DeepIterRegLib.images.dicom.geometry_tags import look_up, spacing_in_file_mm
from DeepIterRegLib.images.dicom.header import Header, open_header
from DeepIterRegLib.images.dicom.header_copy import copy_header
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES, read_image_frames
from DeepIterRegLib.images.dicom.run_files import check_xa
from DeepIterRegLib.images.dicom.times import read_times
from DeepIterRegSlicer.nodes.angiograms import AS_IN_FILE, HEADER, PIXELS

Node = Any


def loadAngiogram(path: Path) -> Node:
    """An XA file, or a PNG or TIFF whose geometry will be typed. Frames keep the file's values; nodes have no patient's name.

    Raises
    ------
    InputError
        No XA run and no image, or one that cannot be decoded.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        frames, fullScale = read_image_frames(path)
        kind = np.uint8 if fullScale == 255 else np.uint16 if fullScale == 65535 else np.float32
        return _intoScene(frames.astype(kind), np.arange(len(frames), dtype=float), "frame", (1.0, 1.0), {})
    header = open_header(path)
    check_xa(header.dataset, path)
    check_decodable(header)
    stored = decode(header)
    name = f"DSA {direction}" if (direction := _direction(header, *stored.shape[1:])) else "DSA"
    times_s, _ = read_times(header, len(stored))
    attributes = {HEADER: copy_header(header), PIXELS: "stored"}
    return _intoScene(stored, times_s, "s", spacing_in_file_mm(header, *stored.shape[1:]), attributes, name)


def _direction(header: Header, rows: int, columns: int) -> str:
    """`AP`, `lateral` or `oblique`, by the angles; empty where the header does not tell them."""
    found = look_up(header, rows, columns, AS_IN_FILE).found
    primary, secondary = found.get("primary_angle_deg"), found.get("secondary_angle_deg")
    if primary is None or secondary is None:
        return ""
    angles = (float(cast("float", angle.value)) for angle in (primary, secondary))
    # What else a C-arm needs does not matter to its direction.
    size = {"sid_mm": 1000.0, "sod_mm": 700.0, "rows": 2, "columns": 2, "pixel_spacing_mm": (1.0, 1.0)}
    return str(view_direction(CArm.from_angles(*angles, **size)))  # type: ignore[arg-type]


def _intoScene(
    frames: np.ndarray,
    index: np.ndarray,
    unit: str,
    spacing: tuple[float, float],
    attributes: dict[str, str],
    name: str = "DSA",
) -> Node:
    scene = slicer.mrmlScene
    # Not the name of the file or the series: either may name the patient.
    name = scene.GenerateUniqueName(name)
    if len(frames) == 1:
        volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        _fill(volume, frames[0], spacing)
        _setAttributes(volume, attributes)
        _window(volume, frames)
        return volume
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time" if unit == "s" else "frame")
    sequence.SetIndexUnit("s" if unit == "s" else "")
    _setAttributes(sequence, attributes)
    for value, frame in zip(index, frames, strict=True):
        volume = slicer.vtkMRMLScalarVolumeNode()
        volume.SetName(name)
        _fill(volume, frame, spacing)
        sequence.SetDataNodeAtValue(volume, f"{value:.6g}")
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    _window(proxy, frames)
    return proxy


def _setAttributes(node: Node, attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        node.SetAttribute(name, value)


def _fill(volume: Node, frame: np.ndarray, spacing: tuple[float, float]) -> None:
    """An axial slice with the rows downwards, as Slicer's own DICOM plugin places angiograms."""
    image = vtk.vtkImageData()
    image.SetDimensions(frame.shape[1], frame.shape[0], 1)
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(np.ascontiguousarray(frame).ravel(), deep=True))
    volume.SetAndObserveImageData(image)
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-spacing[1], -spacing[0], 1.0, 1.0])))


def _window(volume: Node, frames: np.ndarray) -> None:
    # A sample, as this runs on the main thread.
    some = frames[:: max(1, len(frames) // 8), ::4, ::4]
    low, high = (float(v) for v in np.percentile(some, (0.5, 99.5)))
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(low, max(high, low + 1))
