"""Ray casting of a dense head on a card: first is it right, then how many images a second, beside nanodrr's own kernel.

    python Testing/Benchmarks/gpu_raycast.py --device cuda --out raycast.jsonl
    python Testing/Benchmarks/gpu_raycast.py --device cpu --small --out raycast.jsonl

A part of `gpu.py`. It needs numpy, torch, numba and array-api-compat, nothing that reads files; Triton and nanodrr where they are. Each
line of the output is JSON: a check with its value and limit, or a figure. It ends with 1 if a check failed.

Images a second are of the whole call, from poses on the card to images on it, calls following one another. `graph` replays a
CUDA graph of the same call, which leaves out what Python and the launches cost. The gradient is by the 4 x 4 matrix of the pose.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TextIO

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering.raycast import RaycastProjector, attenuation_per_mm

Render = Callable[[torch.Tensor], torch.Tensor]
PART = "raycast"
FOV_MM = 230.0
# Rays across and down, planes, warps; the first is the default.
TILINGS = (
    (8, 4, 8, 4),
    (8, 4, 4, 4),
    (16, 2, 8, 4),
    (8, 4, 4, 2),
    (8, 8, 4, 4),
    (16, 8, 2, 4),
    (8, 4, 16, 4),
    (16, 8, 1, 4),
)
SAMPLES = 500  # nanodrr's own number of samples a ray


@dataclass(frozen=True)
class Bench:
    """Where it runs, where lines go and when it must end (`time.monotonic`)."""

    device: torch.device
    small: bool
    out: TextIO
    end: float

    def say(self, **line: Any) -> None:
        text = json.dumps({"part": PART, **line})
        print(text, flush=True)
        self.out.write(text + "\n")
        self.out.flush()

    def check(self, name: str, value: float, limit: float) -> bool:
        good = bool(value <= limit)
        self.say(check=name, value=value, limit=limit, ok=good)
        return good

    def figure(self, what: str, value: float, unit: str) -> None:
        self.say(what=what, value=float(f"{value:.5g}"), unit=unit)

    def left(self, wanted_s: float, what: str) -> bool:
        """Whether there is time for something that takes so long; says if not."""
        if self.end - time.monotonic() >= wanted_s:
            return True
        self.say(what=what, skipped="the time is over")
        return False

    @property
    def on_card(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.on_card:
            torch.cuda.synchronize(self.device)


# -- what is seen ----------------------------------------------------------------------------------------------------


def head(bench: Bench, shape: tuple[int, int, int]) -> Volume:
    """Attenuation of a head (k, j, i): skull, brain, ventricles, bright vessels, the noise of a scanner in all of them."""
    spacing = np.array([FOV_MM / shape[2], FOV_MM / shape[1], 180.0 / shape[0]])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (np.array(shape[::-1]) - 1) / 2
    z, y, x = (
        (torch.arange(n, device=bench.device, dtype=torch.float32) - (n - 1) / 2) * float(s)
        for n, s in zip(shape, spacing[::-1], strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    hu = torch.full(shape, -1000.0, device=bench.device)

    def fill(size_mm: tuple[float, float, float], value: float, at: tuple[float, float, float] = (0, 0, 0)) -> None:
        inside = ((x - at[0]) / size_mm[0]) ** 2 + ((y - at[1]) / size_mm[1]) ** 2 + ((z - at[2]) / size_mm[2]) ** 2 < 1
        hu.masked_fill_(inside, value)

    fill((80, 100, 85), 40)
    fill((76, 95, 81), 1100)
    fill((69, 88, 74), 35)
    for side in (-1, 1):
        fill((8, 28, 12), 5, (side * 14, 5, 10))
        fill((3, 3, 60), 380, (side * 22, 20, -20))
        fill((45, 2.5, 2.5), 380, (side * 30, 15, 5))
    hu += 12 * torch.randn(shape, generator=torch.Generator(bench.device).manual_seed(0), device=bench.device)
    return attenuation_per_mm(Volume(hu.cpu().numpy(), affine))


def view(pixels: int, angles_deg: tuple[float, float] = (0, 0)) -> CArm:
    spacing = 320.0 / pixels
    return CArm.from_angles(
        *angles_deg, sid_mm=1100, sod_mm=740, rows=pixels, columns=pixels, pixel_spacing_mm=(spacing, spacing)
    )


def poses(bench: Bench, batch: int, spread_deg: float = 10.0) -> torch.Tensor:
    """(B, 4, 4), float64 on the device: about the isocentre, turned and shifted at random."""
    rng = torch.Generator().manual_seed(1)
    six = torch.rand((batch, 6), generator=rng, dtype=torch.float64) * 2 - 1
    turn = pose.so3_exp(six[:, :3] * math.radians(spread_deg))
    return pose.matrix(turn, six[:, 3:] * spread_deg).to(bench.device)


def weighted(render: Render, at: torch.Tensor) -> torch.Tensor:
    """A smooth weighting of the images, summed in double precision."""
    images = render(at).to(torch.float64)
    rows, columns = (torch.linspace(-1, 1, n, device=images.device, dtype=torch.float64) for n in images.shape[-2:])
    weights = torch.exp(-(rows[:, None] ** 2) - columns**2) * torch.cos(3 * rows[:, None] + 2 * columns + 0.5)
    return (images * weights).sum()


def gradient(render: Render, at: torch.Tensor) -> torch.Tensor:
    leaf = at.clone().requires_grad_()
    return torch.autograd.grad(weighted(render, leaf), leaf)[0]


def off(found: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest difference, as a part of the largest magnitude."""
    return float((found.cpu().double() - truth.cpu().double()).abs().max() / truth.cpu().double().abs().max())


# -- is it right? ----------------------------------------------------------------------------------------------------


def checks(bench: Bench, volume: Volume, carm: CArm) -> bool:
    good = []
    near = poses(bench, 3, 25.0)
    on_cpu = near.cpu()
    coarse = volume.with_voxels(volume.voxels[::4, ::4, ::4])
    coarse = Volume(coarse.voxels, volume.affine @ np.diag([4.0, 4, 4, 1]))
    little = carm.resampled(48, 48)
    numba, by_torch = (RaycastProjector(coarse, little, "joseph", backend=b) for b in ("numba", "torch"))
    good += [bench.check("torch against numba on the CPU: image", off(by_torch(on_cpu), numba(on_cpu)), 1e-4)]
    found, truth = gradient(by_torch, on_cpu), gradient(numba, on_cpu)
    good += [bench.check("torch against numba on the CPU: gradient", off(found, truth), 1e-4)]
    ours = RaycastProjector(volume, carm, "joseph", device=bench.device)
    if bench.on_card:
        with torch.no_grad():
            truth = RaycastProjector(volume, carm, "joseph")(on_cpu)
            good += [bench.check("card against numba: image", off(ours(near), truth), 1e-4)]
    try:
        fused = RaycastProjector(volume, carm, "joseph", device=bench.device, backend="triton")
    except InputError as missing:
        bench.say(what="triton against torch", skipped=str(missing))
    else:
        plain = RaycastProjector(volume, carm, "joseph", device=bench.device, backend="torch")
        with torch.no_grad():
            good += [bench.check("triton against torch: image", off(fused(near), plain(near)), 1e-4)]
        found, truth = gradient(fused, near), gradient(plain, near)
        good += [bench.check("triton against torch: gradient", off(found, truth), 1e-3)]
    good += [bench.check("gradient against finite differences", differences(ours, near[:1]), 1e-2)]
    twice = [(ours(near), gradient(ours, near)) for _ in range(2)]
    same = all(torch.equal(a, b) for a, b in zip(*twice, strict=True))
    good += [bench.check("not the same bits twice", float(not same), 0)]
    return all(good)


def differences(render: Render, start: torch.Tensor) -> float:
    """Of the gradient by six pose parameters, degrees and mm, against central differences: the largest, as a part of the largest."""
    centre = torch.zeros(3, dtype=torch.float64, device=start.device)

    def at(six: torch.Tensor) -> torch.Tensor:
        return pose.offset_about(start, centre, pose.so3_exp(torch.deg2rad(six[None, :3])), six[None, 3:])

    six = torch.zeros(6, dtype=torch.float64, device=start.device, requires_grad=True)
    (found,) = torch.autograd.grad(weighted(render, at(six)), six)
    step = 0.03 * torch.eye(6, dtype=torch.float64, device=start.device)
    with torch.no_grad():
        slopes = [(weighted(render, at(s)) - weighted(render, at(-s))) / 0.06 for s in step]
    return off(found, torch.stack(slopes))


# -- how fast? -------------------------------------------------------------------------------------------------------


def seconds(bench: Bench, work: Callable[[], Any], budget_s: float) -> float:
    """Of one call among calls that follow one another: the median of five rounds."""
    work()
    bench.wait()
    begin = time.perf_counter()
    work()
    bench.wait()
    calls = max(1, min(200, int(budget_s / 5 / max(time.perf_counter() - begin, 1e-6))))
    rounds = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        bench.wait()
        rounds.append((time.perf_counter() - begin) / calls)
    return statistics.median(rounds)


def graph_seconds(bench: Bench, work: Callable[[], Any], budget_s: float) -> float:
    """The same for a CUDA graph of the call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return seconds(bench, graph.replay, budget_s)


def speed(
    bench: Bench, name: str, render: Render, batches: tuple[int, ...], budget_s: float, prepare: Render | None = None
) -> None:
    """Images a second forward, forward and backward, and of a graph; `prepare` makes what `render` takes of poses, uncounted."""
    for batch in batches:
        at = poses(bench, batch) if prepare is None else prepare(poses(bench, batch))

        def forward(at: torch.Tensor = at) -> None:
            with torch.no_grad():
                render(at)

        def both(at: torch.Tensor = at) -> None:
            leaf = at.detach().requires_grad_()
            torch.autograd.grad(render(leaf).sum(), leaf)

        for way, work in (("forward", forward), ("forward + backward", both)):
            if not bench.left(budget_s + 1, f"{name}, {way}, batch {batch}"):
                return
            took = seconds(bench, work, budget_s)
            bench.figure(f"{name}, {way}, batch {batch}", batch / took, "images/s")
            bench.figure(f"{name}, {way}, batch {batch}", took * 1e3, "ms")
        if bench.on_card:
            try:
                took = graph_seconds(bench, forward, budget_s)
                bench.figure(f"{name}, forward, batch {batch}, graph", batch / took, "images/s")
            except Exception as fault:
                bench.say(
                    what=f"{name}, forward, batch {batch}, graph", skipped=f"{type(fault).__name__}: {fault}"[:300]
                )


def limits(bench: Bench, name: str, volume: Volume, carm: CArm, render: Render) -> None:
    """What an image costs at least: the voxels' way from memory once, at the speed at which this card copies."""
    at = poses(bench, 4)
    with torch.no_grad():
        inside = Volume(np.ones_like(volume.voxels), volume.affine)
        planes = RaycastProjector(inside, carm, "joseph", device=bench.device)(at).sum() / 4 / volume.spacing_mm[1]
    bench.figure(f"{name}: samples of an image", float(planes), "samples")
    bench.figure(f"{name}: voxels, float32", volume.voxels.size * 4 / 1e6, "MB")
    block = torch.empty(2**22 if bench.small else 2**28, device=bench.device)
    to = torch.empty_like(block)
    copy = 2 * block.numel() * 4 / seconds(bench, lambda: to.copy_(block), 0.3)
    bench.figure("copying on the device", copy / 1e9, "GB/s")
    bench.figure(f"{name}: all voxels read once from memory", volume.voxels.size * 4 / copy * 1e3, "ms")
    with torch.no_grad():
        took = seconds(bench, lambda: render(at), 0.3) / 4
    bench.figure(f"{name}: samples a second, batch 4", float(planes) / took / 1e9, "10^9 samples/s")
    bench.figure(f"{name}: voxels asked for, 4 a sample, batch 4", float(planes) * 16 / took / 1e9, "GB/s")


def tilings(
    bench: Bench, name: str, volume: Volume, carm: CArm, shapes: tuple[tuple[int, ...], ...], budget_s: float
) -> None:
    """Other ways to cut the work."""
    if not bench.on_card and os.environ.get("TRITON_INTERPRET") != "1":
        bench.say(what=f"{name}, other tilings", skipped="on a card only")
        return
    try:
        from DeepIterRegLib.rendering.raycast_triton import Tiling, caster
    except ImportError as missing:
        bench.say(what=f"{name}, other tilings", skipped=str(missing))
        return
    batch = 16 if bench.on_card else 1
    at = poses(bench, batch)
    for cut in map(Tiling, *zip(*shapes, strict=True)):
        what = f"{name}, rays {cut.across} x {cut.down}, planes {cut.planes}, warps {cut.warps}, batch {batch}"
        if not bench.left(budget_s + 2, what):
            return
        render = caster(volume, carm, bench.device, cut)
        with torch.no_grad():
            took = seconds(bench, partial(render, at), budget_s)
        bench.figure(what, batch / took, "images/s")


# -- nanodrr ---------------------------------------------------------------------------------------------------------


def nanodrr(bench: Bench, volume: Volume, carm: CArm) -> tuple[Render, Render]:
    """The renderer of nanodrr, of the same view, by the backend that it chooses itself; and what makes its matrices of poses.

    Its package reads files with torchio and names a folder with platformdirs; where these are not installed, empty
    modules stand for them, since rendering calls neither.
    """
    for name, names in (("torchio", ("LabelMap", "ScalarImage")), ("platformdirs", ("user_cache_dir",))):
        try:
            import_module(name)
        except ImportError:
            stand_in = ModuleType(name)
            vars(stand_in).update({n: SimpleNamespace if n[0].isupper() else (lambda *_: ".") for n in names})
            sys.modules[name] = stand_in
            bench.say(what=f"nanodrr runs without {name}", value=1, unit="an empty module stands for it")
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    image = torch.as_tensor(volume.voxels, device=bench.device)[None, None]
    affine = torch.as_tensor(volume.affine, dtype=torch.float32, device=bench.device)
    subject = Subject(
        image,
        torch.zeros_like(image),
        affine,
        affine.inverse(),
        Subject._make_voxel_to_grid(image.shape).to(bench.device),
        torch.zeros(3, device=bench.device),
        max_label=0,
        convert_to_mu=False,
    )
    row_mm, column_mm = carm.pixel_spacing_mm
    project = DRR.from_carm_intrinsics(carm.sid_mm, column_mm, row_mm, 0.0, 0.0, carm.rows, carm.columns).to(
        bench.device
    )
    camera = torch.eye(4, dtype=torch.float64)
    camera[:3, :3] = torch.as_tensor(np.array(carm.axes).T)
    camera[:3, 3] = torch.tensor(carm.source_mm)
    camera = camera.to(bench.device)

    def render(matrices: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = project(subject, matrices, n_samples=SAMPLES)[:, 0]
        return images

    return render, lambda at: (pose.inverse(at) @ camera).float()


def beside(
    bench: Bench, name: str, volume: Volume, carm: CArm, ours: Render, batches: tuple[int, ...], budget_s: float
) -> None:
    try:
        theirs, prepare = nanodrr(bench, volume, carm)
        at = poses(bench, 2)
        with torch.no_grad():
            apart = off(theirs(prepare(at)), ours(at))
        bench.figure(f"{name}, nanodrr: image off ours by", apart, "of the brightest pixel")
        speed(bench, f"{name}, nanodrr ({SAMPLES} samples)", theirs, batches, budget_s, prepare)
    except Exception as fault:
        bench.say(what=f"{name}, nanodrr", skipped=f"{type(fault).__name__}: {fault}"[:300])


# -- all -------------------------------------------------------------------------------------------------------------


def run(bench: Bench) -> bool:
    name = torch.cuda.get_device_name(bench.device) if bench.on_card else "CPU"
    bench.say(what="device", value=name, unit=f"torch {torch.__version__}")
    shapes = ((20, 28, 24), (24, 36, 32)) if bench.small else ((200, 256, 256), (300, 512, 512))
    pixels, batches = (24, (1, 2)) if bench.small else (200, (1, 16, 64))
    budget_s = 0.1 if bench.small else 0.4
    good, seen = True, []
    for number, shape in enumerate(shapes):
        what = f"{shape[2]} x {shape[1]} x {shape[0]}, {pixels} x {pixels}"
        if not bench.left(8 * number, what):
            break
        carm = view(pixels)
        volume = head(bench, shape)
        if number == 0:
            good = checks(bench, volume, carm)
        if bench.on_card:
            torch.cuda.reset_peak_memory_stats(bench.device)
        begin = time.perf_counter()
        ours = RaycastProjector(volume, carm, "joseph", device=bench.device)
        bench.wait()
        bench.figure(f"{what}: to prepare the projector", time.perf_counter() - begin, "s")
        speed(bench, what, ours, batches, budget_s)
        if bench.on_card:
            bench.figure(f"{what}: most memory of the card", torch.cuda.max_memory_allocated(bench.device) / 1e6, "MB")
        beside(bench, what, volume, carm, ours, batches, budget_s)
        lateral = RaycastProjector(volume, view(pixels, (90, 0)), "joseph", device=bench.device)
        speed(bench, f"{what}, lateral", lateral, batches[1:2], budget_s)
        limits(bench, what, volume, carm, ours)
        seen.append((what, volume, carm))
    # Last, as they may be left out.
    for what, volume, carm in seen:
        tilings(bench, what, volume, carm, TILINGS[:1], budget_s / 2)
    for what, volume, carm in seen[:1]:
        tilings(bench, what, volume, carm, TILINGS[1 : 2 if bench.small else None], budget_s / 2)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description="Ray casting on a card: checks and figures, as JSON lines.")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument(
        "--small", action="store_true", help="a coarse head, to try the script; the figures mean nothing"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    parser.add_argument("--seconds", type=float, default=90, help="begin nothing that would end after this")
    given = parser.parse_args()
    end = time.monotonic() + given.seconds
    with given.out.open("w", encoding="utf-8") as out:
        bench = Bench(torch.device(given.device), given.small, out, end)
        try:
            return 0 if run(bench) else 1
        except Exception as fault:
            bench.say(
                check="ran to the end", value=1, limit=0, ok=False, fault=f"{type(fault).__name__}: {fault}"[:500]
            )
            raise


if __name__ == "__main__":
    sys.exit(main())
