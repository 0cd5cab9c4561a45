"""Training of the initial pose network on a card: samples made there, checks against the CPU, figures, and the training itself.

One prepared script for a card that is lent for minutes: every line of the result is written as it is known.

    python Testing/Benchmarks/gpu_training.py --device cuda --out FILE.jsonl --patients FOLDER --seconds 60
    python Testing/Benchmarks/gpu_training.py --device cuda --out FILE.jsonl --patients FOLDER --train-seconds 270

The second trains and writes the weights in parts beside the result (`--join FOLDER FILE.safetensors` puts them together).
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

# torch only inside functions: the processes that make heads read this file too, and need none.
PART = "training"
BATCH, SMALL_BATCH = 256, 4
JUDGING, JUDGED_HEADS, JUDGED_BATCHES = 1_000_000, 24, 4
H200_BYTES_S = 4.8e12
# Masks of our own segmentation of 28 phantom patients (seeds 5200 and up) cover 0.03 to 0.08 of what the
# detector saw, and their CTA's veins 0.09 to 0.13 of the canvas; samples by the defaults cover 0.07 to
# 0.19 and 0.11 to 0.17.
_SETTINGS = tomllib.loads(
    (Path(__file__).parents[2] / "Resources/Models/initial_pose.toml").read_text(encoding="utf-8")
)
AS_SEGMENTED = {name: tuple(v) if isinstance(v, list) else v for name, v in _SETTINGS["sampling"].items()}


class Out:
    """Lines of the result, flushed one by one."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.begin, self.seconds, self.failed = time.monotonic(), seconds, False
        self.file = path.open("a", encoding="utf-8") if path else None

    def left(self) -> float:
        """Seconds left."""
        return self.seconds - (time.monotonic() - self.begin)

    def line(self, **values: Any) -> None:
        """One line, here and in the file."""
        text = json.dumps({"part": PART, **values})
        print(text, flush=True)
        if self.file:
            self.file.write(text + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def check(self, name: str, value: float, limit: float) -> None:
        """A check: the value must not exceed the limit, and must be a number."""
        good = bool(value <= limit)
        self.failed |= not good
        self.line(check=name, value=value, limit=limit, ok=good)

    def figure(self, what: str, value: Any, unit: str, **more: Any) -> None:
        """A figure."""
        self.line(what=what, value=value, unit=unit, **more)


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--small", action="store_true", help="coarse images, small batches: a trial on a CPU")
    parser.add_argument("--out", type=Path, help="result, JSON lines; new lines are added")
    parser.add_argument("--seconds", type=float, default=90, help="checks and figures take no longer")
    parser.add_argument("--patients", type=Path, help="folder of gpu_training_data.py")
    parser.add_argument("--train-seconds", type=float, default=0, help="train so long instead of checks and figures")
    parser.add_argument("--tune-seconds", type=float, default=0, help="and fine-tune to patients, all together so long")
    parser.add_argument("--start", default="shipped", choices=("shipped", "scratch"))
    parser.add_argument("--weights", type=Path, help="folder of the trained weights; beside the result by default")
    parser.add_argument(
        "--dense",
        action="store_true",
        help="sample masks by the defaults, not as sparse as our segmentation makes them",
    )
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 3), help="that make heads")
    parser.add_argument("--heads", type=int, default=5000, help="at most so many")
    parser.add_argument("--join", type=Path, nargs=2, metavar=("FOLDER", "FILE"), help="put weights together, no more")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = parsed(argv)
    if options.join:
        from gpu_training_parts import join_parts

        join_parts(*options.join)
        return 0
    import torch

    whole_s = (
        options.train_seconds + options.tune_seconds
        if options.train_seconds or options.tune_seconds
        else options.seconds
    )
    faulthandler.dump_traceback_later(whole_s + 25, exit=True)
    out = Out(options.out, whole_s)
    device = torch.device(options.device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name(0) if device.type == "cuda" else "CPU"
    out.line(device=name, torch=torch.__version__, processes=options.processes)
    options.batch = options.batch or (SMALL_BATCH if options.small else BATCH)
    network = trained(options, device, out) if options.train_seconds else None
    if options.tune_seconds:
        import gpu_training_tuning

        gpu_training_tuning.tuned(options, device, out, network)
    if not options.train_seconds and not options.tune_seconds:
        checks(options, device, out)
        figures(options, device, out)
    return 1 if out.failed else 0


def settings_of(options: argparse.Namespace) -> Any:
    from DeepIterRegLib.registration.network.config import TrainSettings

    settings = TrainSettings()
    return settings if options.dense else replace(settings, sampling=replace(settings.sampling, **AS_SEGMENTED))


def most(options: argparse.Namespace) -> int | None:
    """How many patients take part."""
    return 2 if options.small else None


def network_on(options: argparse.Namespace, device: Any, start: str) -> Any:
    """The network to begin with, in the memory layout of a card."""
    import torch

    from DeepIterRegLib.registration.network.model import PoseNetwork
    from DeepIterRegLib.registration.network.weights import load_network

    torch.manual_seed(0)
    network = load_network() if start == "shipped" else PoseNetwork(settings_of(options).network)
    return network.to(device, memory_format=torch.channels_last)


# -- checks ----------------------------------------------------------------------------------------------


def checks(options: argparse.Namespace, device: Any, out: Out) -> None:
    """The card against the CPU."""
    import numpy as np
    import torch
    from gpu_training_parts import asked, fresh_batches, read_patients

    from DeepIterRegLib.registration.network.batch_draws import stacked
    from DeepIterRegLib.registration.network.batches import batch_of, heads_on
    from DeepIterRegLib.registration.network.draws import draw
    from DeepIterRegLib.registration.network.heads import make_head_points

    settings = settings_of(options)
    heads = [make_head_points(JUDGING + number) for number in range(2)]
    here, there = heads_on(heads, "cpu"), heads_on(heads, device)
    draws = [
        draw(here.pieces, np.random.default_rng(n), settings.network, settings.sampling, 1000)[0] for n in range(16)
    ]
    chosen = torch.arange(16) % 2
    cpu = batch_of(here, chosen, stacked(draws, "cpu"), settings.network)
    card = [v.cpu() for v in batch_of(there, chosen.to(device), stacked(draws, device), settings.network)]
    apart = (cpu[0] - card[0]).abs()
    out.check("CTA channel, card against CPU, largest difference", float(apart[:, 0].max()), 1e-3)
    # The edge of a patch may fall on the other side of a pixel.
    out.check("DSA channel, share of pixels more than 0.001 apart", float((apart[:, 1] > 1e-3).float().mean()), 1e-4)
    out.check("cameras, largest difference, mm", max(float((cpu[n] - card[n]).abs().max()) for n in (1, 2)), 2e-3)
    moved = (cpu[3] - card[3]).norm(dim=2) > 0.01
    out.check("points of the loss that are others", float(moved.float().mean()), 1e-3)

    batches = fresh_batches(there, settings, options.batch, (1,))
    first, again = batches.make(7), batches.make(7)
    out.check(
        "tensors that differ when the same batch is made again",
        sum(not torch.equal(a, b) for a, b in zip(first, again, strict=True)),
        0,
    )
    out.check("values that are no numbers", sum(int((~v.isfinite()).sum()) for v in first), 0)
    out.check("gradient of the loss, relative difference", _gradient_apart(first, settings, device), 2e-2)
    if options.patients:
        _, patients = read_patients(options.patients, device, most(options))
        _, cpu_patients = read_patients(options.patients, torch.device("cpu"), 1)
        few = [patients.one(0), cpu_patients.one(0)]
        card_mm = asked(network_on(options, device, "shipped"), few[0])[1].cpu()
        cpu_mm = asked(network_on(options, torch.device("cpu"), "shipped"), few[1])[1]
        out.check("answers of the network, MPE apart, mm", float((card_mm - cpu_mm).abs().max()), 2.0)
    if out.left() > 25:
        _check_lightning(options, device, out)


def _gradient_apart(item: Any, settings: Any, device: Any) -> float:
    """How much the gradient in the cameras differs between card and CPU, relative to its length."""
    import torch

    from DeepIterRegLib.registration.network.loss import image_loss
    from DeepIterRegLib.rendering.splat_clouds import splat_clouds

    found = []
    for where in (device, torch.device("cpu")):
        _, start, truth, points, weights, distances = (v.to(where) for v in item)
        cameras = start.clone().requires_grad_()
        clouds, focal = points.transpose(1, 2), distances[:, 1] / settings.network.pixel_mm
        rows = settings.network.rows
        moving, fixed = (splat_clouds(c, clouds, weights, focal, rows) for c in (cameras, truth))
        image_loss(moving, fixed, 4).sum().backward()
        assert cameras.grad is not None
        found.append(cameras.grad.cpu())
    return float((found[0] - found[1]).norm() / found[1].norm())


def _check_lightning(options: argparse.Namespace, device: Any, out: Out) -> None:
    """`train` itself, with samples made on the card."""
    import warnings

    from DeepIterRegLib.registration.network.config import LearningSettings
    from DeepIterRegLib.registration.network.training import train
    from DeepIterRegLib.registration.network.weights import load_network

    warnings.simplefilter("ignore")
    learning = LearningSettings(
        heads=2, batch=options.batch, batches=4, epochs=1, judged=options.batch, workers=0,
        accelerator="gpu" if device.type == "cuda" else "cpu", devices=1,
    )  # fmt: skip
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        weights = train(replace(settings_of(options), training=learning), Path(folder), quiet=True)
        load_network(weights)
    out.figure("a training of 4 steps by Lightning", time.monotonic() - begin, "s")


# -- figures ---------------------------------------------------------------------------------------------


def figures(options: argparse.Namespace, device: Any, out: Out) -> None:
    """Samples a second, images a second through the whole loop, memory; what the shipped weights answer for patients."""
    import torch
    from gpu_training_parts import Learning, Loop, asked, fresh_batches, loss_of, read_patients

    from DeepIterRegLib.registration.network.batches import heads_on
    from DeepIterRegLib.registration.network.heads import make_head_points

    settings, network = settings_of(options), network_on(options, device, "shipped")
    heads = heads_on([make_head_points(number) for number in range(2 if options.small else 8)], device)
    if options.patients:
        before, after = asked(network, read_patients(options.patients, device, most(options))[1])
        out.figure("patients' MPE before, median", float(before.median()), "mm")
        out.figure("patients' MPE, shipped weights asked once, median", float(after.median()), "mm")
    for batch in (options.batch, 2 * options.batch):
        if out.left() < 8:
            out.line(skipped=f"batch {batch}", reason="time")
            break
        batches = fresh_batches(heads, settings, batch, (2,))
        numbers = iter(range(10**9))
        repeats = 3 if options.small else 20
        made = median_s(lambda: batches.make(next(numbers)), repeats, device)  # noqa: B023
        # The least that must move: each head's 13 numbers a point read, two images and the points of the loss written.
        least = batch * (heads.volume_mm3.shape[1] * 47 + 2 * 4 * settings.network.rows**2 + 3000 * 16)
        out.figure("samples made a second", batch / made, "1/s", batch=batch, ms=1000 * made, least_bytes=least,
                   least_ms_h200=1000 * least / H200_BYTES_S)  # fmt: skip
        loop, item = Loop(network, Learning(rate=1e-5)), batches.make(0)
        step = median_s(lambda: loop.step(item, 0.5), repeats, device)  # noqa: B023
        out.figure("network, loss and step alone, images a second", batch / step, "1/s", batch=batch, ms=1000 * step)
        loss = median_s(lambda: loss_of(network, item, Learning()), repeats, device)  # noqa: B023
        out.figure("network forward and loss alone", 1000 * loss, "ms", batch=batch)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        whole = median_s(lambda: loop.step(batches.make(next(numbers)), 0.5), repeats, device)  # noqa: B023
        out.figure("images a second through the whole loop", batch / whole, "1/s", batch=batch, ms=1000 * whole)
        if device.type == "cuda":
            out.figure("GPU memory of the loop, largest", torch.cuda.max_memory_allocated() / 2**30, "GiB", batch=batch)


def median_s(work: Callable[[], Any], repeats: int, device: Any) -> float:
    """Median seconds of some runs after three that do not count, each waited for."""
    import statistics

    import torch

    seconds = []
    for number in range(repeats + 3):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


# -- training --------------------------------------------------------------------------------------------


def trained(options: argparse.Namespace, device: Any, out: Out) -> Any:
    """The network trained for the time given; weights in parts every so often, the last at the end of the cycle."""
    import torch
    from gpu_training_parts import GrowingHeads, Learning, Loop, asked, fresh_batches, judged, read_patients, save_parts

    seconds, begin = options.train_seconds, time.monotonic()
    settings = settings_of(options)
    few = 2 if options.small else JUDGED_HEADS
    growing = GrowingHeads(device, options.processes, 6 if options.small else options.heads)
    judges = GrowingHeads(device, min(4, options.processes), few, JUDGING)
    network = network_on(options, device, options.start)
    patients = read_patients(options.patients, device, most(options))[1] if options.patients else None
    judges.wait_for(few)
    judges.close()
    batches = fresh_batches(judges.heads, settings, options.batch, (3, JUDGING), 10)
    judging = [batches.make(n) for n in range(1 if options.small else JUDGED_BATCHES)]
    growing.wait_for(2 if options.small else 64)
    loop = Loop(network, Learning(rate=options.rate))
    folder = options.weights or (options.out.parent if options.out else Path(tempfile.mkdtemp())) / "weights"
    steps, every = 0, max(5.0, seconds / 6)
    source = fresh_batches(growing.heads, settings, options.batch, (4,))
    loss_sum = torch.zeros((), device=device)
    since = 0

    def report(last: bool) -> None:
        nonlocal loss_sum, since
        facts: dict[str, Any] = {
            "seconds": round(time.monotonic() - begin, 1),
            "images": steps * options.batch,
            "heads": growing.count,
            "loss": float(loss_sum) / max(since, 1),
            **judged(network, judging),
        }
        if patients is not None:
            before, after = asked(network, patients)
            twice = asked(network, patients, 2)[1]
            facts |= {
                "patients_before": float(before[:, :-1].median()),
                "patients_after": float(after[:, :-1].median()),
                "patients_after_mean": float(after[:, :-1].mean()),
                "patients_twice": float(twice[:, :-1].median()),
                "patients_radiological_after": float(after[:, -1].median()),
            }
        save_parts(network, folder, card_of(options, settings, facts, last))
        out.line(curve=facts, finished=last)
        loss_sum, since = torch.zeros((), device=device), 0

    report(False)
    next_report, reserve = every, 6.0 if not options.small else 2.0
    train_begin = time.monotonic()
    ends = begin + seconds - reserve
    while (now := time.monotonic()) < ends:
        if steps % 10 == 0:
            growing.take()
            source.heads = growing.heads
        loss_sum += loop.step(source.make(steps), (now - train_begin) / (ends - train_begin))
        steps, since = steps + 1, since + 1
        if now - begin > next_report and ends - now > every / 2:
            report(False)
            next_report += every
    report(True)
    growing.close()
    rate = steps * options.batch / (time.monotonic() - train_begin)
    out.figure("images a second of the training, judging and saving included", rate, "1/s", batch=options.batch)
    return network


def card_of(options: argparse.Namespace, settings: Any, facts: dict[str, Any], last: bool) -> dict[str, Any]:
    """The weights' card."""
    import datetime
    from dataclasses import asdict

    import torch

    learned = replace(settings.training, batch=options.batch, rate=options.rate, heads=max(1, facts["heads"]))
    name = torch.cuda.get_device_name(0) if options.device == "cuda" else "CPU"
    return {
        "made": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        "images": facts["images"],
        "minutes": round(facts["seconds"] / 60, 1),
        "hardware": name,
        "started_from": options.start,
        "whole": last,
        "val_mpe_before_mm": facts["before_mean"],
        "val_mpe_mm": facts["after_mean"],
        "settings": json.loads(json.dumps(asdict(replace(settings, training=learned)))),
    }


if __name__ == "__main__":
    sys.exit(main())
