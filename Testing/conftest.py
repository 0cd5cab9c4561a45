"""What several rooms' tests share: one small synthetic patient on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from DeepIterRegLib.phantom import PhantomSettings, make_patient, write_patient
from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings


@pytest.fixture(scope="session")
def patient_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient at 1 mm and 256 px, made in seconds: cta.nii.gz, dsa.dcm, arteries, veins, truth.tfm."""
    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)),
        view=ViewSettings(matrices=(256,)),
    )
    folder = tmp_path_factory.mktemp("patient")
    write_patient(make_patient(1, settings), folder)
    return folder
