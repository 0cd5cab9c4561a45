"""Sample Data: a synthetic patient, made on this computer from a seed. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import slicer

CATEGORY = "DeepIterReg"
SEED = 1  # that of `deepiterreg demo`

MakePatient = Callable[[Path], None]


class PatientNodes(NamedTuple):
    """`cta` a volume; `dsa` what `DeepIterRegLogic.loadAngiogram` gives; `truth` the transform CTA to C-arm, RAS mm."""

    cta: Any
    dsa: Any
    truth: Any


def register() -> None:
    """List the patient in the module Sample Data; called once Slicer has started."""
    import SampleData
    from slicer.i18n import tr as _

    SampleData.SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("DeepIterReg"))
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        # Without a name: `SampleData.downloadSample` knows a sample by it and downloads, whatever downloader there is. The button
        # then shows the nodes' name.
        sampleName=None,
        thumbnailFileName=str(_icon()),
        uris="made on this computer",  # Sample Data wants one for every file; with a downloader of our own it is only shown
        fileNames="cta.nii.gz",
        nodeNames=_("CTA and DSA of a synthetic head"),
        customDownloader=_onButton,
    )


def loadDemoPatient() -> PatientNodes:
    """The patient of `deepiterreg demo`, made at the first call and kept in Slicer's cache folder.

    :raises InputError: Python packages are missing and were not installed.
    """
    from DeepIterRegLib import __version__
    from DeepIterRegSlicer import dependencies

    dependencies.ensure()
    # The version belongs to the name: another release may draw another head from the same seed.
    return loadPatient(_cacheFolder() / f"DeepIterRegPhantom-{__version__}-{SEED}", _makeDemoPatient)


def loadPatient(folder: Path, make: MakePatient) -> PatientNodes:
    """Load the patient in a folder, made there first if it is not.

    :param make: writes cta.nii.gz, dsa.dcm and truth.tfm into an existing folder.
    """
    from DeepIterRegLib.cases.demo import PHANTOM_FILES
    from DeepIterRegLib.common.atomic_output import output_folder
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegSlicer.logic import DeepIterRegLogic

    if not folder.is_dir():
        # Whole or not at all: a patient whose making was interrupted must not be taken for finished.
        with output_folder(folder, PHANTOM_FILES) as scratch:
            make(scratch)
    scan = load_volume(folder / "cta.nii.gz")
    cta = slicer.util.addVolumeFromArray(scan.voxels, scan.affine, slicer.mrmlScene.GenerateUniqueName("CTA"))
    cta.CreateDefaultDisplayNodes()
    cta.GetDisplayNode().AutoWindowLevelOff()
    cta.GetDisplayNode().SetWindowLevelMinMax(-100, 600)
    dsa = DeepIterRegLogic().loadAngiogram(folder / "dsa.dcm")
    truth = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLLinearTransformNode", slicer.mrmlScene.GenerateUniqueName("true ctaToCarm")
    )
    truth.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(read_pose(folder / "truth.tfm")))
    return PatientNodes(cta, dsa, truth)


def _onButton(source: Any) -> None:
    from slicer.i18n import tr as _

    from DeepIterRegLib.common.errors import InputError

    try:
        with slicer.util.WaitCursor():
            loadDemoPatient()
    except InputError as error:  # a sentence for the person, no traceback
        slicer.util.errorDisplay(_("The synthetic patient could not be made.") + "\n\n" + str(error))


def _makeDemoPatient(folder: Path) -> None:
    from DeepIterRegLib.phantom import make_patient, write_patient

    write_patient(make_patient(SEED), folder)


def _cacheFolder() -> Path:
    return Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory())


def _icon() -> Path:
    from DeepIterRegSlicer.dependencies import requirementsFile

    return requirementsFile().parent / "Icons" / "DeepIterReg.png"
