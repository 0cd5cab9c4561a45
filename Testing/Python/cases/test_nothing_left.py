"""What a case takes is free when it ends, and not when Python next looks for garbage: a batch would grow by a CTA and a run a case."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from DeepIterRegLib.cases.case import register_case
from DeepIterRegLib.cases.files import RegisterJob, case_of_files
from DeepIterRegLib.common.options import Run
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.context import Context
from DeepIterRegLib.registration.scene import Scene
from DeepIterRegLib.registration.skull import Skull

_LARGE = (Angiogram, Volume, Scene, Skull, Context)


def held() -> list[str]:
    """The large things that Python still knows, by their kinds."""
    return sorted(type(one).__name__ for one in gc.get_objects() if type(one) in _LARGE)


@pytest.mark.parametrize("init", ["file", "skull", "search"])
def test_nothing_of_a_case_waits_for_the_garbage_collector(init: str, patient_folder: Path) -> None:
    folder = patient_folder
    job = RegisterJob(
        cta=folder / "cta.nii.gz",
        dsa=folder / "dsa.dcm",
        init=str(folder / "truth.tfm") if init == "file" else init,
        further=(Run(dsa=folder / "dsa2.dcm"),),
    )
    gc.collect()
    before = held()
    gc.disable()
    try:
        outcome = register_case(case_of_files(job), Progress())
        assert len(held()) > len(before)
        del outcome
        assert held() == before
    finally:
        gc.enable()
