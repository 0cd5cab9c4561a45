"""Compile the kernels that most tests need, once: each process of the tests would else do it for itself, in a fresh clone for a minute."""

from __future__ import annotations

import tempfile
from pathlib import Path

from DeepIterRegLib.cases.files import RegisterJob, register_files
from DeepIterRegLib.common.options import Run
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.phantom import PhantomSettings, make_patient, second_run, write_patient
from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings
from DeepIterRegLib.registration.compiled import compile_kernels


def main() -> None:
    compile_kernels(everything=True)
    coarse = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)), view=ViewSettings(matrices=(256,))
    )
    patient = make_patient(1, coarse)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_patient(patient, folder, second_run(patient))
        (folder / "out").mkdir()
        further = (Run(dsa=folder / "dsa2.dcm"),)
        # The search by vessels and the skull have kernels of their own.
        for init, others in (("search", further), ("skull", ())):
            job = RegisterJob(cta=folder / "cta.nii.gz", dsa=folder / "dsa.dcm", further=others, init=init)
            register_files(job, folder / "out", Progress())


if __name__ == "__main__":
    main()
