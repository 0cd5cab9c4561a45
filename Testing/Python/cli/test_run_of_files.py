"""Files that are frames of one run are one DSA on the command line; views stay views."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.uid import generate_uid
from xa_files import written

from DeepIterRegLib.cli.options import job_of


def test_frames_are_one_dsa_and_views_are_several(tmp_path: Path) -> None:
    frames = [written(tmp_path / f"{number}.dcm", frames=1, masks=()) for number in range(3)]
    for number, path in enumerate(frames):
        ds = pydicom.dcmread(path)
        ds.InstanceNumber, ds.SOPInstanceUID = number + 1, generate_uid()
        ds.save_as(path)
    job = job_of(Path("cta.nii.gz"), frames, {})
    assert (job.dsa, job.further) == (tmp_path, ())
    runs = [written(tmp_path / f"{name}.dcm") for name in ("ap", "lateral")]
    job = job_of(Path("cta.nii.gz"), runs, {})
    assert [job.dsa, *(run.dsa for run in job.further)] == runs
