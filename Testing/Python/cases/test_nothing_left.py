"""What a case takes is free when it ends, and not when Python next looks for garbage: a batch would grow by a CTA and a run a case."""

from __future__ import annotations

import gc
from pathlib import Path

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


def test_nothing_of_a_case_waits_for_the_garbage_collector(patient_folder: Path) -> None:
    runs = [patient_folder / name for name in ("dsa.dcm", "dsa2.dcm")]
    job = RegisterJob(cta=patient_folder / "cta.nii.gz", dsa=runs[0], init="skull", further=(Run(dsa=runs[1]),))
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
