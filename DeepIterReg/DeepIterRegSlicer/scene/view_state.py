"""What slice views show, kept so that it can be shown again: an overlay when the panel is opened, what was there before when it is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import slicer

from DeepIterRegSlicer.scene.comparison import sliceNodes
from DeepIterRegSlicer.scene.results import Node


@dataclass(frozen=True)
class Zoom:
    """Which part of its plane a slice view shows: mm for each pixel of the view (across, up), and the middle, mm in the plane.

    Per pixel, as the view may have another size when it is shown again.
    """

    mm_per_px: tuple[float, float]
    middle_mm: tuple[float, float]

    @classmethod
    def of(cls, sliceNode: Node) -> Zoom:
        """What a slice view shows now."""
        wide, high, _ = sliceNode.GetDimensions()
        across, up, _ = sliceNode.GetFieldOfView()
        x, y, _ = sliceNode.GetXYZOrigin()
        return cls((across / max(wide, 1), up / max(high, 1)), (x, y))

    def show(self, sliceNode: Node) -> None:
        """Show that part again."""
        wide, high, _ = sliceNode.GetDimensions()
        # The larger of both: in another shape of view a pixel stays as wide as it is high.
        scale = max(self.mm_per_px)
        sliceNode.SetFieldOfView(wide * scale, high * scale, sliceNode.GetFieldOfView()[2])
        sliceNode.SetXYZOrigin(*self.middle_mm, sliceNode.GetXYZOrigin()[2])


@dataclass(frozen=True)
class SliceState:
    """All that a person chose in a slice view: volumes, by the identifiers of their nodes, plane, part, and whether it is seen in 3D."""

    background: str | None
    foreground: str | None
    label: str | None
    opacities: tuple[float, float]
    slice_to_ras: tuple[tuple[float, ...], ...]
    zoom: Zoom
    seen_in_3d: bool

    @classmethod
    def of(cls, view: str) -> SliceState | None:
        """Of a slice view by its name; None where there is none."""
        sliceNode, composite = sliceNodes(view)
        if sliceNode is None or composite is None:
            return None
        matrix = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
        return cls(
            composite.GetBackgroundVolumeID(),
            composite.GetForegroundVolumeID(),
            composite.GetLabelVolumeID(),
            (composite.GetForegroundOpacity(), composite.GetLabelOpacity()),
            tuple(map(tuple, matrix.tolist())),
            Zoom.of(sliceNode),
            bool(sliceNode.GetSliceVisible()),
        )

    @property
    def empty(self) -> bool:
        """Nothing is shown."""
        return not (self.background or self.foreground or self.label)

    def show(self, view: str) -> None:
        """Show it again; nodes that are gone since are left out."""
        sliceNode, composite = sliceNodes(view)
        if sliceNode is None or composite is None:
            return
        with slicer.util.NodeModify(composite):
            composite.SetBackgroundVolumeID(_known(self.background))
            composite.SetForegroundVolumeID(_known(self.foreground))
            composite.SetLabelVolumeID(_known(self.label))
            composite.SetForegroundOpacity(self.opacities[0])
            composite.SetLabelOpacity(self.opacities[1])
        with slicer.util.NodeModify(sliceNode):
            sliceNode.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(np.array(self.slice_to_ras)))
            sliceNode.UpdateMatrices()
            self.zoom.show(sliceNode)
            sliceNode.SetSliceVisible(self.seen_in_3d)


def _known(nodeId: str | None) -> str | None:
    return nodeId if nodeId and slicer.mrmlScene.GetNodeByID(nodeId) is not None else None


class Before:
    """What slice views showed before a registration was shown in them.

    :param isOurs: whether a state of a view is one that this module brought about, and that nobody has changed since but by zooming.
    """

    def __init__(self, isOurs: Callable[[SliceState], bool]) -> None:
        self._isOurs = isOurs
        self._kept: dict[str, SliceState] = {}

    def keep(self, view: str) -> None:
        """A registration will be shown in the view; where one is already, what was kept stays."""
        state = SliceState.of(view)
        if state is not None and not state.empty and not self._isOurs(state):
            self._kept[view] = state

    def giveBack(self) -> None:
        """Show what was kept, in views that nobody changed since."""
        for view, before in self._kept.items():
            now = SliceState.of(view)
            if now is not None and self._isOurs(now):
                before.show(view)
        self._kept = {}

    def forget(self) -> None:
        """The scene goes, and its nodes with it."""
        self._kept = {}
