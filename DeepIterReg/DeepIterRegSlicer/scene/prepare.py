"""An outcome made ready for the scene: seconds of work that any thread may do, without a node."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
import vtk
from scipy import ndimage
from vtk.util import numpy_support

from DeepIterRegLib.cases.case import Outcome
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import ViewRecord
from DeepIterRegLib.registration.scene import contrast_image
from DeepIterRegLib.results.report.images import projections_in_frames, vessel_projection, window_of
from DeepIterRegLib.segmentation.dsa import DsaMasks
from DeepIterRegSlicer.nodes.volumes import imageOf

_SLAB = 24  # slices of the mask per piece of surface: VTK keeps Python's lock, so the panel waits this long


@dataclass(frozen=True, kw_only=True)
class SceneView:
    """What the scene needs of one view.

    Attributes
    ----------
    angiogram
        The run, with the C-arm that the registration found for it.
    projection : (row, column) float32
        Length of vessel along each ray at the found pose, mm, at the detector's resolution.
    window : (black, white)
        Grey values of the run.
    minip : (row, column) float32
        Over the whole run.
    fullest
        Number of the frame (from 0) that shows most contrast.
    contrast : (row, column) float32
        What of the run the CTA was compared with, 0..1; -1 where the image is not valid.
    digest
        The same for two runs whose frames are the same, value by value.
    inFrames : (P, row, column) float32
        The projection at each position of the head, where it is seen to move within the run.
    """

    angiogram: Angiogram
    projection: np.ndarray
    window: tuple[float, float]
    minip: np.ndarray
    fullest: int
    contrast: np.ndarray
    digest: str
    inFrames: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ShownOutcome(SceneView, Outcome):
    """An outcome with what takes too long for the main thread; it is also its own first view.

    Attributes
    ----------
    surface
        The vessels, CTA world RAS mm.
    labels
        The vessels' box, cut out of the CTA's grid.
    furtherViews
        The other views, in the order of `further`.
    """

    surface: vtk.vtkPolyData
    labels: Volume
    furtherViews: tuple[SceneView, ...] = ()


def prepareToShow(outcome: Outcome, like: ShownOutcome | None = None) -> ShownOutcome:
    """Project, window and triangulate: seconds of work without any node; the surface of the same vessels comes from `like`."""
    registration = outcome.registration
    labels = _box(outcome.vessels)
    runs = ((outcome.angiogram, outcome.dsa_masks), *outcome.further)
    first, *further = (
        _sceneView(*run, view, outcome.vessels, registration.cta_to_carm)
        for run, view in zip(runs, registration.views, strict=True)
    )
    held = {field.name: getattr(outcome, field.name) for field in fields(Outcome)}
    return ShownOutcome(
        **{**held, **{field.name: getattr(first, field.name) for field in fields(SceneView)}},
        surface=_copied(like.surface) if like is not None and like.vessels is outcome.vessels else _surface(labels),
        labels=labels,
        furtherViews=tuple(further),
    )


def _sceneView(
    run: Angiogram, masks: DsaMasks, record: ViewRecord, vessels: Volume, ctaToCarm: np.ndarray
) -> SceneView:
    carm, motion = record.carm, record.frames
    # The darkest frame, as contrast is dark; every fourth pixel is enough to tell it.
    brightness = [float(frame[::4, ::4][run.valid[::4, ::4]].mean()) for frame in run.frames]
    return SceneView(
        angiogram=replace(run, carm=carm),
        projection=vessel_projection(vessels, carm, ctaToCarm),
        window=window_of(run),
        minip=run.minip(),
        fullest=int(np.argmin(brightness)),
        contrast=np.where(run.valid, contrast_image(masks, run.valid), -1).astype(np.float32),
        digest=_digest(run.frames),
        inFrames=projections_in_frames(vessels, carm, motion) if motion is not None and motion.is_seen else None,
    )


def _digest(frames: np.ndarray) -> str:
    return f"{len(frames)} {hashlib.blake2b(np.ascontiguousarray(frames).data.cast('B'), digest_size=16).hexdigest()}"


def _box(mask: Volume) -> Volume:
    """The mask without its empty margins but for one voxel."""
    low, high = mask.set_voxels.min(axis=0), mask.set_voxels.max(axis=0)
    # The margin closes the surface at the side of the box.
    cuts = [slice(max(0, first - 1), last + 2) for first, last in zip(low, high, strict=True)]
    affine = mask.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([cut.start for cut in cuts[::-1]])
    return Volume(np.ascontiguousarray(mask.voxels[tuple(cuts)]), affine)


def _copied(surface: vtk.vtkPolyData) -> vtk.vtkPolyData:
    """One of its own for another node, with the same points."""
    copy = vtk.vtkPolyData()
    copy.ShallowCopy(surface)
    return copy


def _surface(mask: Volume) -> vtk.vtkPolyData:
    """Smooth surface of a mask, RAS mm; piece by piece, and without VTK's slow filters, which would hold Python's lock."""
    # Half the resolution does for a 3D view, and is an eighth of the voxels.
    coarse = _halved(mask) if mask.spacing_mm.max() < 0.75 else Volume(mask.voxels.astype(np.float32), mask.affine)
    soft = ndimage.gaussian_filter(np.pad(coarse.voxels, 2), 0.55)
    append = vtk.vtkAppendPolyData()
    for first in range(0, len(soft) - 1, _SLAB):
        flying = vtk.vtkFlyingEdges3D()
        # Slabs share a slice, or the surface would have gaps between them.
        flying.SetInputData(imageOf(soft[first : first + _SLAB + 1], origin=(0, 0, first)))
        flying.SetValue(0, 0.2)  # a vessel one voxel wide is still there
        flying.ComputeNormalsOff()
        flying.ComputeScalarsOff()
        flying.Update()
        append.AddInputData(flying.GetOutput())
    append.Update()
    surface = append.GetOutput()
    if surface.GetNumberOfPoints() == 0:
        return surface
    ijk = numpy_support.vtk_to_numpy(surface.GetPoints().GetData()).astype(np.float64)
    steps = np.eye(3)[:, None] * 0.5
    inwards = np.stack([_at(soft, ijk + step) - _at(soft, ijk - step) for step in steps], axis=1)
    # From the voxels, as VTK's own filter for normals would hold the lock.
    normals = -inwards @ np.linalg.inv(coarse.affine[:3, :3])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points = vtk.vtkPoints()
    ras = (ijk - 2) @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
    points.SetData(numpy_support.numpy_to_vtk(ras.astype(np.float32), deep=True))
    surface.SetPoints(points)
    array = numpy_support.numpy_to_vtk(normals.astype(np.float32), deep=True)
    array.SetName("Normals")
    surface.GetPointData().SetNormals(array)
    return surface


def _halved(mask: Volume) -> Volume:
    """Share (k, j, i) of 2 x 2 x 2 voxels that are set."""
    padded = np.pad(mask.voxels, [(0, n % 2) for n in mask.voxels.shape]).astype(bool)
    total = np.zeros([n // 2 for n in padded.shape], np.uint8)
    for corner in np.ndindex(2, 2, 2):
        total += padded[tuple(slice(first, None, 2) for first in corner)]
    affine = mask.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = mask.affine[:3, 3] + mask.affine[:3, :3] @ np.full(3, 0.5)
    return Volume(total.astype(np.float32) / 8, affine)


def _at(volume: np.ndarray, ijk: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(volume, ijk.T[::-1], order=1, mode="nearest")
