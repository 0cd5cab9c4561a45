"""Picture of the section "Follow" for the docs: a small patient's two runs and a stranger's, and the run that is shown.

As in make_screenshots.py the panel is drawn with stand-ins for ctk's and Slicer's own widgets, the slice view by MRML's slice logic.

    python Testing/Slicer/make_follow_screenshot.py [--out Resources/Screenshots]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

from make_screenshots import ROOT, besideAtHeight, fewerColours, grabbed, inSlicer, save, zoomed

import standin  # isort: skip  # make_screenshots has put it on the path

import numpy as np
import pydicom

import panels
import scenes


def main() -> None:
    """Follow three runs, and draw what is seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        panel = followed(Path(place))
        save(
            fewerColours(besideAtHeight(grabbed(panel.ui.followCollapsibleButton), zoomed("Red"))),
            arguments.out / "follow.png",
        )
        panels.press(panel.ui.followStartButton)
        panels.wait(lambda: panel.ui.followStartButton.text == "Start", "it does not end")
        panels.close(panel)


def followed(place: Path) -> Any:
    """The panel after the runs came."""
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, second_run, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    coarse = CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0))
    patient = make_patient(1, PhantomSettings(cta=coarse, view=ViewSettings(matrices=(512,))))
    write_patient(patient, place, second_run(patient, between_runs_deg=1.0, between_runs_mm=1.0))
    standin.openViews()
    panel = panels.opened()
    panel.area = inSlicer(panel)
    cta = patient.cta
    panel.p.cta = scenes.addVolume(cta.voxels, cta.affine, "CTA head")
    vessels = patient.vessels
    panel.p.vessels = scenes.addVolume(
        vessels.voxels.astype(np.uint8), vessels.affine, "vessels", "vtkMRMLLabelMapVolumeNode"
    )
    incoming = place / "runs"
    incoming.mkdir()
    panel.p.followIncoming, panel.p.followSession = "/data/runs", "/data/session"
    panel.ui.followCollapsibleButton.collapsed = False
    shown = panel.p.followIncoming, panel.p.followSession
    panel.p.followIncoming, panel.p.followSession = str(incoming), str(place / "session")
    panels.press(panel.ui.followStartButton)
    for count, (name, time, number) in enumerate(
        (("dsa.dcm", "101500", "1"), ("dsa2.dcm", "101615", "1"), ("dsa2.dcm", "101700", "2")), 1
    ):
        run = pydicom.dcmread(place / name)
        run.PatientID, run.AcquisitionDateTime = number, f"20261127{time}"
        if number == "2":
            run.SOPInstanceUID = "1.2.3.4"
        run.save_as(place / "run.part")
        shutil.move(place / "run.part", incoming / f"{count}.dcm")
        panels.wait(lambda count=count: panel.ui.followTable.rowCount == count, "the run does not come")
        panels.wait(lambda: panel.ui.followStatusLabel.text == "Waiting for runs.", "it is not done")
    standin.processEvents(1.0)
    # Nobody needs to see where this was made.
    panel.ui.followIncomingEdit.blockSignals(True)
    panel.ui.followSessionEdit.blockSignals(True)
    panel.ui.followIncomingEdit.text, panel.ui.followSessionEdit.text = shown
    return panel


if __name__ == "__main__":
    main()
