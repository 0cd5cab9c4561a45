"""Angiogram nodes to library objects: header, C-arm geometry, run.

As everywhere here, `runSource` is called on the main thread, and what it returns on any. What a DICOM file says is kept with the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import GeometryOptions, SubtractionSettings
from DeepIterRegLib.images.dicom.geometry_tags import look_up, read_carm
from DeepIterRegLib.images.dicom.header import Header, open_header
from DeepIterRegLib.images.dicom.header_copy import copied_header, copy_header, stored_from_itk
from DeepIterRegLib.images.dicom.image_files import IMAGE_SUFFIXES
from DeepIterRegLib.images.dicom.options import SOURCES
from DeepIterRegLib.images.dicom.reader import angiogram_of_images, angiogram_of_stored
from DeepIterRegLib.images.dicom.run_files import check_xa
from DeepIterRegSlicer.nodes.frames import frameNodes, sequenceOf
from DeepIterRegSlicer.nodes.volumes import voxelsOf
from DeepIterRegSlicer.wording import worded
from DeepIterRegSlicer.words import _

Node = Any  # a vtkMRMLNode
HEADER = "DeepIterReg.Header"
PIXELS = "DeepIterReg.Pixels"  # "stored": voxels are those of the file; else ITK's reader made them
AS_IN_FILE = GeometryOptions()
USUAL_SUBTRACTION = SubtractionSettings()


def _frameViews(node: Node) -> list[np.ndarray]:
    """Arrays (t, row, column) whose concatenation are the frames; views."""
    return [voxelsOf(volume.GetImageData()) for volume in frameNodes(node)]


def _headerCarrier(node: Node) -> Node:
    """Where the header is kept. A proxy's attributes change with the frame, so it is the sequence."""
    return sequenceOf(node) or node


def fileBehind(node: Node) -> Path | None:
    """The DICOM file that a node was read from, as the DICOM database or the storage node tells; None if it is gone."""
    sequence = sequenceOf(node)
    first = node if sequence is None else sequence.GetNthDataNode(0)
    paths = []
    database = getattr(slicer, "dicomDatabase", None)
    # The stock plugin keeps of the header only this identifier: angles and spacing must be read from the file again.
    for uid in ((first.GetAttribute("DICOM.instanceUIDs") if first is not None else None) or "").split():
        paths.append(database.fileForInstance(uid) if database is not None else "")
    for held in (first, node):
        # Without a database, as in a volume that was opened directly, the storage node may know the file.
        storage = held.GetStorageNode() if held is not None and held.IsA("vtkMRMLStorableNode") else None
        paths.append((storage.GetFileName() if storage is not None else None) or "")
    for text in paths:
        path = Path(text)
        if (
            text
            and path.is_file()
            and path.suffix.lower() not in (*IMAGE_SUFFIXES, ".nrrd", ".nhdr", ".mha", ".nii", ".gz")
        ):
            return path
    return None


def headerOf(node: Node) -> Header | None:
    """What the DICOM file of an angiogram says; kept with the node from the first time it is read. None: nothing is known.

    Raises
    ------
    InputError
        The file behind the node is no XA run, or what is kept was spoilt.
    """
    carrier = _headerCarrier(node)
    text = carrier.GetAttribute(HEADER)
    if text is None:
        path = fileBehind(node)
        if path is None:
            return None
        try:
            header = open_header(path)
        except InputError:
            return None  # not DICOM: an image with nothing to say
        # By its name alone: the folder may name the patient, and the message is shown.
        check_xa(header.dataset, Path(path.name))
        # Kept with the node: a saved scene may be opened where neither file nor database is.
        text = copy_header(header)
        carrier.SetAttribute(HEADER, text)
    return copied_header(text)


@dataclass(frozen=True)
class CArmValue:
    """One value of the C-arm's geometry, for people.

    Attributes
    ----------
    label
        What it is, with its unit.
    value
        Number or pair; None if missing.
    source
        The DICOM tag, or `TYPED`; empty if missing.
    problem
        Why it is missing, in a sentence; empty if it is not.
    """

    label: str
    value: float | tuple[float, float] | None
    source: str
    problem: str


def cArmOf(node: Node, typed: GeometryOptions = AS_IN_FILE) -> dict[str, CArmValue]:
    """Each value of the geometry, by the names of `GeometryOptions`; the principal point is missing without a problem."""
    rows, columns = _frameViews(node)[0].shape[1:]
    found = look_up(headerOf(node), rows, columns, typed)
    values = {}
    for name, source in SOURCES.items():
        if name == "projection_matrix":
            continue
        here = found.found.get(name)
        origin = "" if here is None else here.source
        problem = worded((found.problems.get(name, ""),))[0]
        values[name] = CArmValue(source.label, None if here is None else here.value, origin, problem)
    return values


def runSource(
    node: Node,
    geometry: GeometryOptions = AS_IN_FILE,
    subtraction: SubtractionSettings = USUAL_SUBTRACTION,
) -> tuple[Callable[..., Angiogram], CArm]:
    """The run behind an angiogram's node, subtracted when asked for, and its view, known at once.

    Raises
    ------
    InputError, GeometryError
        Not grey images; every part of the geometry that is missing, senseless or moving.
    """
    views = _frameViews(node)
    header, stored = headerOf(node), _headerCarrier(node).GetAttribute(PIXELS) == "stored"
    rows, columns = views[0].shape[1:]
    if header is None:
        problems = []
        # A stack of slices with typed geometry is a run that was loaded as a volume; without, most likely the CTA.
        if sequenceOf(node) is None and len(views[0]) > 1 and not _typed(geometry):
            problems.append(
                _(
                    "DSA {name} is a volume of {count} slices without an angiogram's DICOM values: "
                    "is it the CTA? Choose the angiogram."
                ).format(name=node.GetName(), count=len(views[0]))
            )
        carm = _carmOrProblems(None, rows, columns, geometry, problems)
        return (lambda: _angiogramOfImages(views, geometry, subtraction)), carm
    carm = _carmOrProblems(header, rows, columns, geometry, [])

    def angiogram(on_progress: Callable[[float], None] | None = None) -> Angiogram:
        values = np.concatenate(views)
        # ITK applies the rescaling and picks a type; the reader wants what the file stores.
        values = values if stored else stored_from_itk(values, header)
        return angiogram_of_stored(values, header, geometry, subtraction, on_progress=on_progress)

    return angiogram, carm


def _typed(geometry: GeometryOptions) -> bool:
    return any(getattr(geometry, name) is not None for name in SOURCES)


def _carmOrProblems(
    header: Header | None, rows: int, columns: int, geometry: GeometryOptions, problems: list[str]
) -> CArm:
    try:
        carm, _ = read_carm(header, rows, columns, geometry)
    except InputError as error:
        # The likely mistake alone: the tags that a CTA lacks would hide it.
        raise InputError(problems or error.problems) from error
    if problems:
        raise InputError(problems)
    return carm


def _angiogramOfImages(
    views: list[np.ndarray], geometry: GeometryOptions, subtraction: SubtractionSettings
) -> Angiogram:
    frames = np.concatenate(views)
    full = float(np.iinfo(frames.dtype).max) if frames.dtype.kind in "iu" else float(frames.max())
    again = partial(_angiogramOfImages, views, geometry)
    return angiogram_of_images(frames.astype(np.float32), full, geometry, subtraction, again)


def swapped(ctaNode: Node, dsaNode: Node) -> bool:
    """Whether what was given as CTA looks like an angiogram and what was given as DSA like a CT."""
    return ctaNode is not None and dsaNode is not None and _looksLikeRun(ctaNode) and looksLikeCt(dsaNode)


def _looksLikeRun(node: Node) -> bool:
    if sequenceOf(node) is not None or node.GetAttribute(HEADER) is not None:
        return True
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    return image is not None and image.GetDimensions()[2] == 1


def looksLikeCt(node: Node) -> bool:
    """Whether a node is a volume of many slices with air in it."""
    image = node.GetImageData() if node.IsA("vtkMRMLScalarVolumeNode") else None
    if image is None or sequenceOf(node) is not None or node.GetAttribute(HEADER) is not None:
        return False
    # Below -200 HU there is air, which is around every head.
    return image.GetDimensions()[2] >= 20 and image.GetScalarRange()[0] < -200
