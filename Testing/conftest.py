"""What several rooms' tests share: one small synthetic patient on disk."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.phantom import Patient, PhantomSettings, make_patient, second_run, write_patient
from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

# Started in the background, a shell's command ignores Ctrl-C, and so would the programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _faults_name_no_options_of_the_command_line() -> Iterator[None]:
    """Of every fault that a test provokes, in the library's words and in those that a face made of them."""
    before = InputError.__init__

    def watched(self: InputError, problems: str | Iterable[str]) -> None:
        before(self, problems)
        spoken = [
            problem
            for problem in self.problems
            if re.search(r"(^|\s)--[a-z]|deepiterreg (register|segment|info) ", problem)
        ]
        assert not spoken, f"A fault that speaks of the command line, in whatever face: {spoken}"

    InputError.__init__ = watched  # type: ignore[method-assign]
    yield
    InputError.__init__ = before  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def small_patient() -> Patient:
    """A patient at 1 mm and 256 px, made in seconds."""
    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)),
        view=ViewSettings(matrices=(256,)),
    )
    return make_patient(1, settings)


@pytest.fixture(scope="session")
def patient_folder(small_patient: Patient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its files: cta.nii.gz, dsa.dcm, dsa2.dcm from the other side, arteries, veins, truth.tfm."""
    folder = tmp_path_factory.mktemp("patient")
    write_patient(small_patient, folder, second_run(small_patient))
    return folder
