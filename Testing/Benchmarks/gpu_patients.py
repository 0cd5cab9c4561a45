"""Whole registrations on the card beside the CPU's: the same masks and poses, seconds warm and cold, many at once, a thousand starts."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gpu_parts
import numpy as np
from gpu_parts import Part

SEEDS = range(7466, 7500)  # never used in development
VOXELS_APART = 1e-3  # of a mask, at most, as rounding decides
SAME_MM = 0.1  # MPE between the card's pose and the CPU's
NEAREST_MM, STARTS, _STARTS_AT_ONCE = 0.5, 1000, 5
_DRY = "DEEPITERREG_NO_CARD"
PROCESSES = (1, 4, 8)  # that share the card


# -- patients, made and registered on the CPU beside what the card does -----------------------------------------


def make(seed: int, small: bool) -> tuple[str, Any]:
    """A row of the cohort by the seed, and its patient: the runs through DICOM, the CTA as it was made."""
    import tempfile
    from dataclasses import replace

    import cohort

    from DeepIterRegLib.images.cta_checks import prepare_cta
    from DeepIterRegLib.images.dicom import read_angiogram, write_xa
    from DeepIterRegLib.phantom import make_patient, second_run
    from DeepIterRegLib.phantom.patient import BITS_STORED
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa

    row = list(cohort.ROWS)[seed % len(cohort.ROWS)]
    number = list(cohort.ROWS).index(row)
    settings = cohort.settings_of(row, small)
    short = replace(settings.run, duration_s=(2.0, 2.0))
    patient = replace(make_patient(seed + 100 * number, replace(settings, run=short)), settings=settings)
    rng = np.random.default_rng([seed, number])
    patient = cohort.without(patient, {"occluded": 0.3, "few vessels": 0.6}.get(row, 0.0), rng)
    views = [second_run(patient, view, seed=n) for n, view in enumerate(rng.permutation(["ap", "lateral"]))]
    cta, runs = prepare_cta(patient.cta), []
    with tempfile.TemporaryDirectory() as folder:
        for view in views:
            path = Path(folder, "dsa.dcm")
            of = view.run
            write_xa(path, of.frames, view.carm, of.frame_times_s, of.mask_frames, bits_stored=BITS_STORED)
            runs.append(read_angiogram(path))
            path.unlink()
    truths = [view.run.motion[view.run.mask_frames[0]] @ view.cta_to_carm for view in views]
    vessels = segment_vessels(cta)
    return row, {
        "cta": cta,
        "runs": tuple(runs),
        "vessels": vessels,
        "masks": tuple(segment_dsa(run) for run in runs),
        "truths": truths,
        "small": small,
    }


def prepare(seed: int, small: bool, folder: Path, with_poses: bool) -> dict[str, Any]:
    """Make a patient, register it on the CPU where poses are wanted, keep both in the folder."""
    begin = time.perf_counter()
    try:
        row, made = make(seed, small)
    except Exception as error:  # a run without a vessel to be found, or whatever else: the others go on
        return {"seed": seed, "not_made": f"{type(error).__name__}: {error}"[:200]}
    made_s = time.perf_counter() - begin
    found = {key: registered(made, *key, "cpu") for key in kinds()} if with_poses else {}
    part = folder / f"{seed}.part"
    with part.open("wb") as file:
        pickle.dump({"seed": seed, "row": row, "made": made, "cpu": found}, file, protocol=5)
    part.rename(folder / f"{seed}.pkl")
    return {"seed": seed, "row": row, "made_s": made_s, "all_s": time.perf_counter() - begin}


def kinds() -> list[tuple[int, str]]:
    """Views and start of each registration of a patient."""
    return [(1, "auto"), (2, "auto"), (1, "search")]


def settings_of(init: str, device: str, small: bool) -> Any:
    """The default's; in a small trial few poses and points."""
    from dataclasses import replace

    from DeepIterRegLib.registration.settings import RegistrationSettings
    from DeepIterRegLib.registration.vessels.search import Level, SearchSettings

    settings = RegistrationSettings.preset("default", init=init, device=device)
    if not small:
        return settings
    box = SearchSettings(rotation_deg=7, translation_mm=10, rows=48, points=300, levels=(Level(64, 600, 0.8, 3, 2),))
    return replace(settings, search=box, levels=(Level(96, 1500, 1.0, 4, 1),))


def registered(made: dict[str, Any], views: int, init: str, device: str, *, given: bool = True) -> dict[str, Any]:
    """Pose, state, errors and seconds of one registration, with the CPU's masks given or with the device's own."""
    from DeepIterRegLib.common.errors import RegistrationError
    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.registration.pipeline import register

    settings = settings_of(init, device, made["small"])
    runs = made["runs"][:views]
    try:
        masks = {"cta_mask": made["vessels"], "dsa_masks": made["masks"][:views]} if given else {}
        result = register(made["cta"], runs, settings, **masks)
    except RegistrationError as refused:
        return {"refused": str(refused)}
    found, centre = result.cta_to_carm, made["cta"].centre_mm
    assert result.confidence is not None
    return {
        "pose": found,
        "state": result.confidence.state,
        "probability": result.confidence.probability,
        "on": result.computed_on,
        "mpe_mm": max(float(mpe_mm(r.carm, found, t, centre)) for r, t in zip(runs, made["truths"], strict=False)),
        "seconds": result.seconds,
    }


def make_all(part: Part, folder: Path, jobs: int, count: int, with_poses: bool) -> None:
    """Patients until the part's time is up, by so many processes."""
    seeds = list(range(50, 51)) if part.small else list(SEEDS)[:count]
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context)
    waiting = [pool.submit(prepare, seed, part.small, folder, with_poses) for seed in seeds]
    try:
        for done in concurrent.futures.as_completed(waiting, timeout=part.left_s()):
            part.figure("made", str(done.result()))
    except concurrent.futures.TimeoutError:
        part.figure("not made in time", sum(not one.done() for one in waiting))
    for process in list(pool._processes.values()):
        process.kill()
    (folder / "done").touch()


# -- on the card -----------------------------------------------------------------------------------------------


def use(device: str) -> str:
    """The device's name for the settings; where there is no card, the card's backend by torch's operations stands in for one."""
    if device.startswith("cuda") or _DRY not in os.environ:
        return device
    from DeepIterRegLib.common import devices
    from DeepIterRegLib.registration import compute
    from DeepIterRegLib.registration.compute.tensors import TorchBackend

    backend, place = TorchBackend("cpu"), devices.Place("auto")
    place.card = devices.Card("cpu", "torch on the CPU")
    compute.on = lambda _: compute.by(backend, place.card.name)
    devices.on = lambda _: devices.at(place)
    return "cpu"


def compare(path: Path, device: str) -> list[dict[str, Any]]:
    """Registrations and masks of one patient on the card beside the CPU's."""
    import gpu_alone
    import torch

    from DeepIterRegLib.geometry import mpe_mm

    device = use(device)
    with path.open("rb") as file:
        record = pickle.load(file)
    made, lines = record["made"], []
    for key in kinds():
        begin = time.perf_counter()
        mine, theirs = registered(made, *key, device), record["cpu"][key]
        took = time.perf_counter() - begin
        line = {"seed": record["seed"], "row": record["row"], "views": key[0], "init": key[1], "took_s": took}
        if "pose" not in mine or "pose" not in theirs:
            lines.append({**line, "refused": [("pose" not in one) for one in (mine, theirs)]})
            continue
        again = registered(made, *key, device)
        runs, centre = made["runs"][: key[0]], made["cta"].centre_mm
        seconds = again["seconds"]
        lines.append(
            {
                **line,
                "apart_mm": max(float(mpe_mm(r.carm, mine["pose"], theirs["pose"], centre)) for r in runs),
                "other_bits": int((again["pose"] != mine["pose"]).sum()),
                "mpe_mm": mine["mpe_mm"],
                "cpu_mpe_mm": theirs["mpe_mm"],
                "state": mine["state"],
                "cpu_state": theirs["state"],
                "warm_s": seconds["total"],
                "cpu_s": theirs["seconds"]["total"],
                "find_s": find_s(seconds),
                "cpu_find_s": find_s(theirs["seconds"]),
                "seconds": {k: round(v, 4) for k, v in seconds.items()},
                "on": mine["on"],
            }
        )
    mine, theirs = registered(made, 1, "auto", device, given=False), record["cpu"][1, "auto"]
    if "pose" in mine and "pose" in theirs:
        of, centre = made["runs"][0].carm, made["cta"].centre_mm
        lines[0]["own_masks_apart_mm"] = float(mpe_mm(of, mine["pose"], theirs["pose"], centre))
        lines[0]["own_masks_state"] = mine["state"]
    lines[0] |= gpu_alone.masks_apart(made, device)
    if device.startswith("cuda"):
        lines[-1]["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return lines


def find_s(seconds: dict[str, float]) -> float:
    """Of search and refinement."""
    return sum(value for key, value in seconds.items() if key not in ("check_inputs", "confidence", "total"))


def on_card(part: Part, folder: Path) -> None:
    """Registrations of every patient on the card, as they come."""
    context = multiprocessing.get_context("spawn")
    jobs = 1 if part.small else 4
    lines: list[dict[str, Any]] = []
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        asked: dict[Path, concurrent.futures.Future[list[dict[str, Any]]]] = {}
        while part.left_s() > 0.45 * part.seconds or part.small:
            made_all = (folder / "done").exists()
            for path in sorted(folder.glob("*.pkl")):
                if path not in asked:
                    asked[path] = pool.submit(compare, path, part.device)
            if made_all and all(one.done() for one in asked.values()):
                break
            time.sleep(0.2)
        for path, one in asked.items():
            if not one.done():
                one.cancel()
                continue
            try:
                found = one.result()
            except Exception as error:
                part.failed.append(path.name)
                part.figure("registration ended early", f"{type(error).__name__}: {error}"[:300])
                continue
            for line in found:
                part.figure("registration", "", **line)
            lines += found
    summary(part, [line for line in lines if "apart_mm" in line])


def summary(part: Part, lines: list[dict[str, Any]]) -> None:
    """Checks and medians over the patients."""
    for views, init in kinds():
        of = [line for line in lines if (line["views"], line["init"]) == (views, init)]
        if not of:
            continue
        name = f"{init}, {views} view{'s' if views > 1 else ''}"
        right = [line for line in of if line["cpu_mpe_mm"] < 5]  # of the others any pose may be the best by a hair
        apart = np.array([line["apart_mm"] for line in right] or [0.0])
        part.check(f"{name}: largest MPE between card and CPU, CPU right", float(apart.max()), SAME_MM)
        part.figure(f"{name}: median MPE between card and CPU", float(np.median(apart)), "mm", patients=len(right))
        own = np.array([line["own_masks_apart_mm"] for line in right if "own_masks_apart_mm" in line])
        if len(own):
            part.check(f"{name}: largest MPE with the card's own masks, CPU right", float(own.max()), SAME_MM)
            for what in ("cta", "dsa"):
                shares = np.array([line[f"{what}_voxels_apart"] for line in of])
                part.check(f"{what}: largest share of a mask's voxels that differ", float(shares.max()), VOXELS_APART)
        part.check(f"{name}: other bits the second time", float(sum(line["other_bits"] > 0 for line in of)), 0)
        for which in ("mpe_mm", "cpu_mpe_mm"):
            errors = np.array([line[which] for line in of])
            part.figure(f"{name}: {which}, median", float(np.median(errors)), "mm", below_5_mm=int((errors < 5).sum()))
        for which in ("find_s", "cpu_find_s", "warm_s", "cpu_s"):
            part.figure(f"{name}: {which}, median", float(np.median([line[which] for line in of])), "s", of=len(of))


def throughput(path: Path, device: str, seconds: float) -> tuple[int, float, float]:
    """Registrations of one patient in so many seconds, and when they began and ended."""
    device = use(device)
    with path.open("rb") as file:
        made = pickle.load(file)["made"]
    registered(made, 1, "auto", device)
    begin, count = time.time(), 0
    while time.time() - begin < seconds:
        registered(made, 1, "auto", device)
        count += 1
    return count, begin, time.time()


def many(part: Part, folder: Path) -> None:
    """Registrations a minute by processes that share the card, beside the CPU's."""
    path = min(folder.glob("*.pkl"), default=None)
    if path is None:
        return
    seconds = 1.0 if part.small else 5.0
    plans = [(part.device, jobs) for jobs in ((1,) if part.small else PROCESSES)] + [("cpu", 1 if part.small else 16)]
    for device, jobs in plans:
        if part.left_s() < 60 and not part.small:
            break
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
            found = list(pool.map(throughput, [path] * jobs, [device] * jobs, [seconds] * jobs))
        rate = sum(60 * count / (end - begin) for count, begin, end in found)
        part.figure(f"registrations a minute, {device}, {jobs} processes", rate, "1/min")


def starts(first: int, count: int, small: bool, device: str, seconds: float) -> tuple[list[float], float]:
    """MPE of paper B's Monte Carlo starts by our search, those done before the seconds are over, and what they took."""
    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.registration import compute
    from DeepIterRegLib.studies.experiments.objects import phantom_volumes, random_starts
    from DeepIterRegLib.studies.experiments.paper_b.methods import search_and_second_order
    from DeepIterRegLib.studies.experiments.paper_b.scene import ROTATION_DEG, TRANSLATION_MM, _scene

    cta, vessels = phantom_volumes(0, small)
    of = _scene(cta.with_voxels((vessels.voxels > 0).astype(np.float32)), "vessels", small, cta.centre_mm)
    poses = random_starts(of.truth, of.centre_mm, ROTATION_DEG, TRANSLATION_MM, range(first, first + count), 0)
    device = use(device)
    with compute.on(device):
        search_and_second_order(of, poses[:1], small)
        begin, found = time.time(), []
        while len(found) < count and time.time() - begin < seconds:
            some = poses[len(found) : len(found) + _STARTS_AT_ONCE]
            found += list(search_and_second_order(of, some, small).poses)
    return [float(mpe_mm(of.carm, one, of.truth, of.centre_mm)) for one in found], time.time() - begin


def thousand(part: Part) -> None:
    """Paper B's Monte Carlo."""
    total, jobs = (2, 1) if part.small else (STARTS, 8)
    each = total // jobs
    begin, seconds = time.time(), part.left_s() - 25  # until the processes have begun
    context = multiprocessing.get_context("spawn")
    asked = range(0, total, each), [each] * jobs, [part.small] * jobs, [part.device] * jobs, [seconds] * jobs
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        found = list(pool.map(starts, *asked))
    errors = np.array([value for values, _ in found for value in values])
    part.figure(
        f"{len(errors)} random starts",
        max(took for _, took in found),
        "s",
        below_half_mm=int((errors < NEAREST_MM).sum()),
        below_5_mm=int((errors < 5).sum()),
        with_start_of_processes_s=time.time() - begin,
        processes=jobs,
    )


def main(argv: Sequence[str] | None = None) -> None:
    part, more = gpu_parts.options("patients", __doc__ or "", argv, "folder", "make-jobs", "count", "poses")
    if not part.device.startswith("cuda"):
        os.environ[_DRY] = "1"
    folder = Path(more.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if more.make_jobs:
        make_all(part, folder, int(more.make_jobs), int(more.count), more.poses == "yes")
        return
    from gpu_alone import run_alone
    from gpu_kernels import attempt

    attempt(part, "registrations", lambda: on_card(part, folder))
    attempt(part, "alone", lambda: run_alone(part, folder))
    if part.left_s() > 30:
        attempt(part, "a thousand starts", lambda: thousand(part))
    if part.left_s() > 30:
        attempt(part, "many at once", lambda: many(part, folder))
    sys.exit(1 if part.failed else 0)


if __name__ == "__main__":
    main()
