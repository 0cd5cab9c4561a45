"""Register many cases from a table.

In Slicer, without a window::

    Slicer --no-main-window --python-script DeepIterReg/Scripts/register_cases.py -- --cases cases.csv --out DIR

or outside, on slicer-core (pip install "deepiterreg[slicer]")::

    python DeepIterReg/Scripts/register_cases.py --cases cases.csv --out DIR

Exit codes: 0 every case done, 1 a fault of this program, 2 wrong use, table or row (the other rows are done), 3 a case failed,
130 cancelled.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import traceback
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

EXIT_DONE, EXIT_FAULT, EXIT_INPUT, EXIT_FAILED_CASE, EXIT_CANCELLED = 0, 1, 2, 3, 130

# Beside the module when installed, beside the module's folder in a source checkout.
for folder in (Path(__file__).resolve().parents[2], Path(__file__).resolve().parents[1]):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

if TYPE_CHECKING:
    from DeepIterRegLib.cases.case import Outcome
    from DeepIterRegLib.cases.files import RegisterJob


def main(argv: list[str]) -> int:
    """Do what the arguments say; the exit code."""
    # Slicer takes options for its own unless they stand behind `--`, which it may hand on.
    arguments = _parser().parse_args(argv[1:] if argv[:1] == ["--"] else argv)
    if not os.environ.get("DEEPITERREG_DEBUG"):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)  # readers quote header values, which may name the patient
    from DeepIterRegLib.common.errors import InputError
    from DeepIterRegLib.common.messages import Face, word

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only a flag is set: an exception could strike while Slicer writes a scene.
        signal.signal(number, lambda number, frame: stop.set())
    try:
        return _register(arguments, stop)
    except InputError as error:
        face = Face(lambda option: f"--{option}")
        for problem in error.problems:
            print(f"Error: {word(problem, face)}", file=sys.stderr, flush=True)
        return EXIT_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="register_cases.py",
        description="Register many cases from a table. Research use only. Not a medical device.",
        epilog="A case whose inputs and settings are unchanged is not done again. Exit codes: 0 every case done, "
        "1 a fault of this program, 2 wrong use, table or row (the other rows are done), 3 a case failed, 130 cancelled.",
    )
    parser.add_argument(
        "--cases",
        required=True,
        type=Path,
        help="CSV file, a row a case: name, cta, dsa, and any option of `deepiterreg register` with _ for -.",
    )
    parser.add_argument("--out", required=True, type=Path, help="Folder for a folder a case, and summary.csv.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--install",
        action="store_true",
        help="In Slicer: install the Python packages that are missing, without asking.",
    )
    return parser


def _register(arguments: argparse.Namespace, stop: threading.Event) -> int:
    from DeepIterRegLib.common.own_symbols import bind_own

    bind_own()  # before pydicom is imported, which imports GDCM
    _provideSlicer()
    from DeepIterRegSlicer import dependencies

    ask = dependencies.agree if arguments.install else dependencies.decline
    dependencies.ensure(ask)
    # Only now: these import packages that may have been installed a moment ago.
    from DeepIterRegLib.cases.batch import run_cases
    from DeepIterRegLib.cases.table import SUMMARY, missing_paths, read_cases
    from DeepIterRegLib.common.shown import place_of

    cases = read_cases(arguments.cases, arguments.device)
    if any(dependencies.wantsNetwork(case.job.init, case.job.preset, case.job.device) for case in cases):
        dependencies.ensure(ask, network=True)
    for sentence in missing_paths(cases):
        _tell(f"Warning: {sentence}")
    results = run_cases(cases, arguments.out, writeScene, _tell, stop.is_set)
    count = {status: sum(result.status == status for result in results) for status in ("done", "failed", "waiting")}
    _tell(
        f"{count['done']} done, {count['failed']} failed, {count['waiting']} not reached: {place_of(arguments.out, SUMMARY)}"
    )
    if stop.is_set():
        return EXIT_CANCELLED
    if any(case.problems for case in cases):
        return EXIT_INPUT
    return EXIT_FAILED_CASE if count["failed"] else EXIT_DONE


def _tellFault(error: Exception) -> None:
    """What went wrong inside: the texts of exceptions may quote a header, so they are shown only when asked for."""
    if os.environ.get("DEEPITERREG_DEBUG"):
        traceback.print_exception(error)
        return
    from DeepIterRegLib.common.shown import fault_words

    print(f"Unexpected {fault_words(error)}; DEEPITERREG_DEBUG=1 shows more.", file=sys.stderr, flush=True)


def _tell(line: str) -> None:
    print(line, flush=True)


def writeScene(outcome: Outcome, job: RegisterJob, path: Path) -> None:
    """The result and the CTA as a scene that Slicer opens."""
    import slicer

    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegSlicer.scene import batch_scene, fill
    from DeepIterRegSlicer.scene import results as resultNodes
    from DeepIterRegSlicer.scene.prepare import prepareToShow

    # A scene for each case: nothing of the patient before may be saved with this one.
    slicer.mrmlScene.Clear(0)
    nodes = fill.show(prepareToShow(outcome))
    cta = prepare_cta(load_volume(job.cta))
    # Not named by its file, as names of files may name patients.
    volume = slicer.util.addVolumeFromArray(cta.voxels, cta.affine, "CTA")
    resultNodes.placeUnder(nodes.ctaToCarm, volume)
    batch_scene.layOut(nodes, volume)
    written = slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(0)
    if not written:
        raise OSError(f"Slicer could not write {path.name}.")


def _provideSlicer() -> None:
    """What Slicer itself would have, for slicer-core: a scene with the logics that its nodes need."""
    from DeepIterRegLib.common.errors import InputError

    try:
        import slicer
    except ImportError as error:
        raise InputError(
            'Slicer is needed for the scenes: run this script in Slicer, or pip install "deepiterreg[slicer]".'
        ) from error
    if hasattr(slicer, "mrmlScene"):
        return
    slicer.mrmlScene = slicer.vtkMRMLScene()
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(slicer.mrmlScene)
    logics: dict[str, Any] = {"application": application}
    # A bare scene makes no sequences, markups or segmentations: their logics register the node classes with it.
    for name, className in (
        ("colors", "vtkMRMLColorLogic"),
        ("sequences", "vtkSlicerSequencesLogic"),
        ("markups", "vtkSlicerMarkupsLogic"),
        ("plots", "vtkSlicerPlotsLogic"),
        ("tables", "vtkSlicerTablesLogic"),
        ("subjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
        ("segmentations", "vtkSlicerSegmentationsModuleLogic"),
        ("transforms", "vtkSlicerTransformLogic"),
        ("volumes", "vtkSlicerVolumesLogic"),
    ):
        logics[name] = getattr(slicer, className)()
        logics[name].SetMRMLApplicationLogic(application)
        logics[name].SetMRMLScene(slicer.mrmlScene)
    # The functions also hold the logics, which Python would else let go.
    slicer.modules = types.SimpleNamespace(
        **{name: types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    )


def _leave(code: int) -> None:
    """End the program: a script never ends Slicer by itself."""
    import importlib.util

    if importlib.util.find_spec("slicer"):
        import slicer

        if getattr(slicer, "app", None) is not None:
            slicer.util.exit(code)
            return
    sys.exit(code)


if __name__ == "__main__":
    try:
        exitCode = main(sys.argv[1:])
    except SystemExit as leaving:  # argparse: help, or wrong use
        exitCode = leaving.code if isinstance(leaving.code, int) else EXIT_INPUT
    except Exception as error:
        _tellFault(error)
        exitCode = EXIT_FAULT
    _leave(exitCode)
