"""A phantom procedure as files, and its runs as the program reads them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from DeepIterRegLib.common.scratch import temporary_folder
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.phantom.patient import write_volumes
from DeepIterRegLib.phantom.procedure import Procedure, ProcedureRun
from DeepIterRegLib.phantom.run import BITS_STORED


def procedure_record(procedure: Procedure) -> dict[str, Any]:
    """What `procedure.json` holds: plain numbers and strings; poses (4, 4) in RAS mm."""
    error = procedure.header_error
    return {
        "seed": procedure.patient.seed,
        "headerError": {"scale": error.scale, "isocentreMm": list(error.isocentre_mm)},
        "runs": [
            {
                "file": f"runs/{run.name}.dcm",
                "truth": f"truth/{run.name}.tfm",
                "direction": run.view,
                "injection": run.run.injection,
                "occlusion": run.clot,
                "secondsSinceFirst": run.start_s,
                "ctaToCarm": run.cta_to_carm.tolist(),
                "ctaToCarmAtMask": run.at_mask.tolist(),
                "turnedDeg": run.turned_deg,
                "shiftedMm": run.shifted_mm,
                "repositioned": run.repositioned,
                "headerError": {"scale": error.scale, "isocentrePx": list(error.isocentre_px(run.run.carm))},
                "maskFrames": list(run.run.mask_frames),
                "carm": asdict(run.run.carm),
                "headerCarm": asdict(run.header_carm),
            }
            for run in procedure.runs
        ],
        "settings": asdict(procedure.settings),
    }


def write_procedure(procedure: Procedure, out_dir: str | Path) -> None:
    """Write cta.nii.gz, arteries.nii.gz, veins.nii.gz, runs/, truth/ and procedure.json into a folder, made if needed."""
    from DeepIterRegLib.geometry.pose_files import write_tfm

    out = Path(out_dir)
    write_volumes(procedure.patient, out)
    for folder in ("runs", "truth"):
        (out / folder).mkdir(exist_ok=True)
    for number, run in enumerate(procedure.runs, 1):
        _write_run(out / "runs" / f"{run.name}.dcm", run, procedure.patient.seed, number)
        write_tfm(out / "truth" / f"{run.name}.tfm", run.cta_to_carm)
    record = json.dumps(procedure_record(procedure), indent=2) + "\n"
    (out / "procedure.json").write_text(record, encoding="utf-8")


def as_read(run: ProcedureRun) -> Angiogram:
    """The run as the program reads it from its file: subtracted, with the C-arm of its header. The true one is `run.run.carm`."""
    from DeepIterRegLib.common.options import GeometryOptions
    from DeepIterRegLib.images.dicom.reader import angiogram_of_stored
    from DeepIterRegLib.images.dicom.run_files import open_run
    from DeepIterRegLib.images.subtraction import SubtractionSettings

    with temporary_folder() as folder:
        path = folder / f"{run.name}.dcm"
        _write_run(path, run, 0, 1)
        file = open_run(path)
        # Not `read_angiogram`: its other readings would open the file again, which is gone by then.
        return angiogram_of_stored(file.decode(), file.header, GeometryOptions(), SubtractionSettings())


def _write_run(path: Path, run: ProcedureRun, seed: int, number: int) -> None:
    """The run's file, of the study of a seed."""
    from DeepIterRegLib.images.dicom.writer import Place, write_xa

    write_xa(
        path,
        run.run.frames,
        run.header_carm,
        run.run.frame_times_s,
        run.run.mask_frames,
        bits_stored=BITS_STORED,
        place=Place(f"procedure {seed}", number, run.start_s),
    )
