"""The module's self-test: a small synthetic patient through the whole chain. No network; needs no window."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

SUCCESS_MM = 5.0  # mean projection error on the detector that the papers count as success
SEED = 1


def makeSmallPatient(folder: Path) -> None:
    """A patient at 1 mm and 256 px, made in seconds."""
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)),
        view=ViewSettings(matrices=(256,)),
    )
    write_patient(make_patient(SEED, settings), folder)


class DeepIterRegTest(ScriptedLoadableModuleTest):
    """Run by "Reload and Test", and by CTest."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_registersAPatient()
        self.setUp()
        self.test_saysWhatIsMissing()

    def test_registersAPatient(self) -> None:
        """Pose against the truth, and what stands in the scene afterwards."""
        nodes = self._registered()
        self.delayDisplay("Comparing with the truth")
        from DeepIterRegSlicer.scene.results import registrationOf

        registration = registrationOf(nodes)
        self.assertLess(registration.mpe_mm_to_reference, SUCCESS_MM)
        # The scene against the result: a pose that was found and put in the wrong way round would show here.
        found = slicer.util.arrayFromTransformMatrix(nodes.ctaToCarm)
        self.assertLess(abs(found - registration.cta_to_carm).max(), 1e-6)
        self._checkImages(nodes, registration)
        self.assertEqual(nodes.vessels.GetParentTransformNode(), nodes.ctaToCarm)
        self.assertEqual(nodes.vessels.GetSegmentation().GetNumberOfSegments(), 1)
        self.assertEqual(nodes.carmPoints.GetNumberOfControlPoints(), 2)
        self.assertGreater(nodes.scores.GetNumberOfRows(), 0)
        self.assertGreater(nodes.chart.GetNumberOfPlotSeriesNodes(), 0)
        self.delayDisplay("Test passed")

    def test_saysWhatIsMissing(self) -> None:
        """An angiogram without C-arm geometry is refused with the names of all values it lacks."""
        self._requirePackages()
        import numpy as np

        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer.logic import DeepIterRegLogic

        cta = slicer.util.addVolumeFromArray(np.full((40, 40, 40), 30, np.int16), np.diag([4.0, 4.0, 4.0, 1.0]), "CTA")
        dsa = slicer.util.addVolumeFromArray(np.zeros((1, 64, 64), np.int16), np.eye(4), "DSA")
        with self.assertRaises(InputError) as caught:
            DeepIterRegLogic().register(cta, dsa)
        self.assertGreaterEqual(len(caught.exception.problems), 3, caught.exception)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLinearTransformNode"), 0)

    def _registered(self) -> Any:
        self._requirePackages()
        from DeepIterRegSlicer import sample_data
        from DeepIterRegSlicer.logic import DeepIterRegLogic

        with tempfile.TemporaryDirectory() as folder:
            self.delayDisplay("Making a synthetic patient")
            patient = sample_data.loadPatient(Path(folder) / "patient", makeSmallPatient)
        self.delayDisplay("Registering")
        return DeepIterRegLogic().register(patient.cta, patient.dsa, referenceTransform=patient.truth)

    def _checkImages(self, nodes: Any, registration: Any) -> None:
        """Projection, MinIP and frame have the detector's size, and stand where it stood."""
        import numpy as np

        carm = registration.carm
        for node in (nodes.projection, nodes.minip, nodes.frame):
            self.assertEqual(node.GetImageData().GetDimensions(), (carm.columns, carm.rows, 1))
            ijkToRas = slicer.util.arrayFromVTKMatrix(self._ijkToRas(node))
            middle = ijkToRas @ [(carm.columns - 1) / 2, (carm.rows - 1) / 2, 0, 1]
            expected = carm.pixel_positions(np.array([[(carm.columns - 1) / 2, (carm.rows - 1) / 2]]))[0]
            self.assertLess(np.abs(middle[:3] - expected).max(), 1e-3)
        self.assertGreater(nodes.frames.GetNumberOfDataNodes(), 1)
        self.assertGreater(slicer.util.arrayFromVolume(nodes.projection).max(), 0)

    def _ijkToRas(self, node: Any) -> Any:
        import vtk

        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        return matrix

    def _requirePackages(self) -> None:
        """Slicer installs nothing while it tests: without the packages there is nothing to test."""
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer import dependencies

        try:
            dependencies.ensure()
        except InputError as error:
            self.skipTest(str(error))
