"""What an iteration of the paper preset costs on a demo patient, beside the default preset's whole registration."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

import benchmarking
import end_to_end
import memory
import numpy as np
import robustness
from benchmarking import table

from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.registration.steps import Step

MEASURED = 8  # iterations of each stage
STAGES: dict[Enum, str] = {Step.MASK_STAGE: "Stage 1: vessel mask", Step.MINIP_STAGE: "Stage 2: MinIP"}


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("paper_preset", __doc__ or "", argv)
    folder, sizes = end_to_end.patient("small" if options.small else "demo", options.fresh)

    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegLib.registration.pipeline import register
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    cta = prepare_cta(load_volume(folder / "cta.nii.gz"))
    angiogram = read_angiogram(folder / "dsa.dcm")
    vessels, masks, truth = segment_vessels(cta), segment_dsa(angiogram), read_pose(folder / "truth.tfm")

    def run(settings: Any, on_progress: Progress) -> Any:
        return register(cta, angiogram, settings, cta_mask=vessels, dsa_masks=masks, on_progress=on_progress)

    default = robustness.registration_settings(options.small)
    before_mb = memory.resident_mb()
    if not options.small:
        run(default, Progress())  # compiles
    memory.reset_peak()
    begin = time.perf_counter()
    found = run(default, Progress())
    default_s, default_mb = time.perf_counter() - begin, memory.peak_mb() - before_mb
    default_mpe = float(mpe_mm(angiogram.carm, found.cta_to_carm, truth, cta.centre_mm))

    n = min(options.limit or MEASURED, MEASURED)
    lines = [
        [
            "default: search and refinement",
            "whole",
            "-",
            f"{default_s:.1f} s, MPE {default_mpe:.2f} mm",
            f"{default_mb:.0f}",
        ]
    ]
    # The splat renderer under the paper's optimiser, then the preset as published.
    splat, published = (paper_with(renderer, options.small) for renderer in ("splat", "siddon"))
    for label, settings in (
        ("the same two stages, splat renderer", splat),
        ("paper preset (DiffDRR Siddon)", published),
    ):
        lines += stage_lines(label, settings, n, run, before_mb)
    body = "\n".join(
        [
            f"Demo patient: CTA {sizes} (frames x rows x columns). Masks are made beforehand. "
            f"{n} iterations of each stage are measured; the totals are **extrapolated** to the published number, not measured. "
            "Memory: highest above what the process held with images and masks loaded.",
            "",
            table(["preset", "stage", "s per iteration", "total", "peak MB"], lines),
        ]
    )
    benchmarking.write_result("paper_preset", "The paper preset's iterations beside the default", body, options)


def paper_with(renderer: str, small: bool) -> Any:
    """The paper preset with another renderer; small: on small images."""
    from DeepIterRegLib.registration.settings import RegistrationSettings

    paper = RegistrationSettings.preset("paper")
    rows = {"rows": 32} if small else {}
    return replace(paper, stages=tuple(replace(stage, renderer=renderer, **rows) for stage in paper.stages))


def stage_lines(
    label: str, settings: Any, n: int, run: Callable[[Any, Progress], Any], before_mb: float
) -> list[list[str]]:
    """Seconds per iteration of each stage: median between reports, the first left out as it pays for what is made once."""
    from DeepIterRegLib.common.errors import RegistrationError

    published = [stage.optimisation.iterations for stage in settings.stages]
    short = tuple(
        replace(stage, optimisation=replace(stage.optimisation, iterations=n + 1)) for stage in settings.stages
    )
    times: dict[Enum, list[float]] = {step: [] for step in STAGES}

    def note(event: ProgressEvent) -> None:
        if event.step in times and event.done > 0:
            times[event.step].append(time.perf_counter())

    memory.reset_peak()
    # A few iterations from the radiological pose need not arrive anywhere.
    with contextlib.suppress(RegistrationError):
        run(replace(settings, stages=short), Progress(note))
    peak_mb = memory.peak_mb() - before_mb
    lines, total = [], 0.0
    for (step, marks), iterations in zip(times.items(), published, strict=True):
        name = STAGES[step]
        each = float(np.median(np.diff(marks)))
        total += each * iterations
        lines.append(
            [label, name, f"{each:.3f}", f"{iterations} iterations: {_duration(each * iterations)}, extrapolated", ""]
        )
    lines.append([label, "both", "", f"{_duration(total)}, extrapolated", f"{peak_mb:.0f}"])
    return lines


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


if __name__ == "__main__":
    main()
