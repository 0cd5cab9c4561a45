"""The card's backend beside the CPU's: the same numbers, the same bits twice, and what each step takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gpu_parts
import numpy as np
from gpu_parts import Part, median_s, queued_s

RELATIVE = 1e-4  # the backends agree to this
# Levels of the search and of the last stages: rows, points, poses.
_ORIGIN_MM = np.array([3.0, -20.0, 40.0])
LEVELS = ((96, 4000, 128), (128, 8000, 96), (192, 16000, 32), (256, 30000, 8), (384, 40000, 8))


def tree(rng: np.random.Generator, count: int) -> Any:
    """Points about as vessels lie."""
    from DeepIterRegLib.registration.vessels.points import Points, tangents

    positions, weights = walks(rng, count)
    return Points(positions, weights, tangents(positions), _ORIGIN_MM)


def walks(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 3) and weights (N,) of random walks in a head."""
    branches = 60
    steps = rng.normal(size=(branches, count // branches, 3))
    steps += 1.5 * rng.normal(size=(branches, 1, 3))
    walk = np.cumsum(0.35 * steps * np.sqrt(4000 / count), axis=1) + rng.uniform(-45, 45, (branches, 1, 3))
    positions = walk.reshape(-1, 3).astype(np.float32)
    weights = rng.uniform(0.2, 1.5, len(positions)).astype(np.float32) * np.float32(40000 / count)
    return positions, weights


def projected(rng: np.random.Generator, rows: int, count: int, poses: int) -> tuple[Any, Any, np.ndarray]:
    """Positions (N, 3), weights (N,) and cameras: all that a projection takes."""
    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.registration.vessels.least_squares import camera_matrices

    positions, weights = walks(rng, count)
    upright = np.repeat(pose.radiological(_ORIGIN_MM)[None], poses, axis=0)
    turns = pose.euler_deg_to_rotation(rng.normal(size=(poses, 3)) * 6)
    starts = pose.offset_about(upright, np.broadcast_to(_ORIGIN_MM, (poses, 3)), turns, rng.normal(size=(poses, 3)) * 6)
    return positions, weights, camera_matrices(starts, _ORIGIN_MM, view(rows))[0]


def view(rows: int) -> Any:
    from DeepIterRegLib.geometry import CArm

    px = 300.0 / rows
    return CArm.from_angles(
        12.0, -8.0, sid_mm=1100, sod_mm=740, rows=rows, columns=rows + 16, pixel_spacing_mm=(px, px)
    )


def scene(rng: np.random.Generator, rows: int, count: int, poses: int) -> tuple[Any, Any, Any, np.ndarray, np.ndarray]:
    """Points, their target and a skull's, cameras and centres."""
    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.registration.compute import VesselDrawing, draw_vessels
    from DeepIterRegLib.registration.skull.targets import SkullTarget
    from DeepIterRegLib.registration.vessels.least_squares import camera_matrices, move
    from DeepIterRegLib.registration.vessels.targets import FIND, Target, gaussian_taps

    points, carm = tree(rng, count), view(rows)
    truth = pose.radiological(points.origin_mm)
    taps = gaussian_taps(0.9)
    cameras, _ = camera_matrices(truth[None], points.origin_mm, carm)
    images = np.zeros((1, 3, carm.rows, carm.columns), np.float32)
    sums = np.zeros((1, 2, carm.rows + 1, carm.columns + 1))
    draw_vessels(VesselDrawing(points, taps, 5.0, FIND.direction_scale), cameras, carm, images, sums)
    image = images[0] + 0.05 * rng.normal(size=images[0].shape).astype(np.float32)
    valid = np.ones(image.shape[1:], np.float32)
    valid[: rows // 12] = 0
    image *= valid
    image /= np.linalg.norm(image)
    target = Target(image, valid, carm, taps, FIND)
    skull = SkullTarget(np.ascontiguousarray(image[1:]), valid, carm, taps)
    starts = move(np.repeat(truth[None], poses, axis=0), rng.normal(size=(poses, 6)) * 6, points, carm)
    return points, target, skull, *camera_matrices(starts, points.origin_mm, carm)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(one - other).max() / np.abs(one).max())


def compare(part: Part, backend: Any, named: str) -> None:
    """Products and shifts of a backend beside the CPU's, and beside its own a second time."""
    from DeepIterRegLib.registration.compute import SkullDrawing, VesselDrawing, Window, cpu
    from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM

    rng = np.random.default_rng(22)
    sizes = ((48, 500, 3),) if part.small else ((96, 4000, 33), (192, 16000, 5))
    for rows, count, poses in sizes:
        points, target, skull, cameras, centres = scene(rng, rows, count, poses)
        mine = backend.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
        theirs = cpu.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
        names = {"matrix": slice(0, 7), "sums": slice(7, 8), "with the target": slice(8, 9)}
        for name, of in names.items():
            part.check(f"{named}, vessels, {rows} rows: {name}", apart(theirs[:, of], mine[:, of]), RELATIVE)
        again = backend.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
        part.check(f"{named}, vessels, {rows} rows: other bits the second time", float((again != mine).sum()), 0)
        knee = np.float32(0.5)
        mine = backend.skull_products(points, cameras, centres, LEVER_MM, skull, knee)
        theirs = cpu.skull_products(points, cameras, centres, LEVER_MM, skull, knee)
        part.check(f"{named}, skull, {rows} rows", apart(theirs, mine), RELATIVE)
        margin, carm = 14, target.carm
        box = np.array([rows // 12, rows, 0, carm.columns])
        wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
        for drawing, image in (
            (VesselDrawing(points, target.taps, 5.0, target.measure.direction_scale), target.image),
            (SkullDrawing(points, target.taps, knee), skull.image),
        ):
            window = Window(image, wide, margin, box, 0.5)
            mine, theirs = (at.shift_scores(drawing, window).best(cameras, 2) for at in (backend, cpu))
            name = f"{named}, shifts of {'vessels' if len(image) == 3 else 'the skull'}, {rows} rows"
            part.check(name, apart(theirs[0], mine[0]), RELATIVE)
            part.check(
                f"{name}: other place of the best", float((mine[1][:, 0] != theirs[1][:, 0]).any(axis=-1).sum()), 0
            )


def steps(part: Part, backend: Any, named: str, levels: Sequence[tuple[int, int, int]] = LEVELS) -> None:
    """What an evaluation takes at each level, the exhaustive pass, and the byte limit of each."""
    from DeepIterRegLib.registration.compute import VesselDrawing, Window
    from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM

    rng = np.random.default_rng(23)
    for rows, count, poses in ((48, 500, 3),) if part.small else levels:
        points, target, skull, cameras, centres = scene(rng, rows, count, poses)

        def vessels(p: Any = points, t: Any = target, c: Any = cameras, m: Any = centres) -> Any:
            return backend.vessel_products(p, c, m, LEVER_MM, t, 5.0)

        # The images once written and once read, in float32; points and targets stay in the cache.
        limit_s = 2 * 21 * 4 * target.valid.size * poses / bytes_a_second(part)
        took = median_s(vessels, part.device, seconds=0.4)
        part.figure(
            f"{named}: evaluation, {rows} rows, {count} points, {poses} poses",
            1000 * took,
            "ms",
            limit_ms=1000 * limit_s,
            microseconds_a_pose=1e6 * took / poses,
        )
        if rows in (48, 192):
            took = median_s(
                lambda p=points, t=skull, c=cameras, m=centres: backend.skull_products(
                    p, c, m, LEVER_MM, t, np.float32(0.5)
                ),
                part.device,
                seconds=0.4,
            )
            part.figure(f"{named}: skull's evaluation, {rows} rows, {count} points, {poses} poses", 1000 * took, "ms")
    rows, count = (48, 500) if part.small else (96, 4000)
    points, target, _, cameras, _ = scene(rng, rows, count, 8 if part.small else 2662)
    margin, carm = (6 if part.small else 25), target.carm
    wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
    box = np.array([rows // 12, rows, 0, carm.columns])
    drawing = VesselDrawing(points, target.taps, 5.0, target.measure.direction_scale)
    scores = backend.shift_scores(drawing, Window(target.image, wide, margin, box, 0.5))
    took = median_s(lambda: scores.best(cameras, 2), part.device, seconds=1.0)
    part.figure(
        f"{named}: exhaustive pass, {len(cameras)} poses, {count} points, {rows} rows, {(2 * margin + 1) ** 2} shifts",
        1000 * took,
        "ms",
        microseconds_a_pose=1e6 * took / len(cameras),
    )


def profiled(part: Part, backend: Any) -> None:
    """What the device spends an evaluation on: its kernels' own times."""
    import torch

    from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM

    rng = np.random.default_rng(25)
    for rows, count, poses in (LEVELS[0], LEVELS[4]):
        points, target, _, cameras, centres = scene(rng, rows, count, poses)
        backend.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            for _ in range(5):
                backend.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
            torch.cuda.synchronize()
        spent = sorted(((event.device_time_total / 5, event.key) for event in seen.key_averages()), reverse=True)
        part.figure(
            f"device, {rows} rows, {poses} poses",
            sum(time for time, _ in spent) / 1000,
            "ms",
            microseconds={key[:40]: round(time, 1) for time, key in spent[:9]},
        )


def graphed(part: Part) -> None:
    """The projection's kernels without the host between them: a graph replayed."""
    import torch

    from DeepIterRegLib.rendering import splat_triton

    rng = np.random.default_rng(26)
    for rows, count, batch in ((256, 150_000, 1), (64, 4000, 512)):
        positions, weights, cameras = projected(rng, rows, count, batch)
        there = torch.tensor(positions, device=part.device), torch.tensor(weights, device=part.device)
        at, carm = torch.tensor(cameras, device=part.device), view(rows)
        by_image = torch.rand(batch, carm.rows, carm.columns, device=part.device)
        forward = partial(splat_triton.images, *there, at, carm)
        backward = partial(splat_triton.gradient, *there, at, carm, by_image)
        for what, works in (("forward", (forward,)), ("forward and backward", (forward, backward))):
            for work in works:
                work()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                kept = [work() for work in works]
            took = queued_s(graph.replay, part.device, 50)
            del kept
            part.figure(
                f"projection {what} as a graph, {len(weights)} points, {rows} rows, {batch} poses",
                1000 * took,
                "ms",
                microseconds_a_pose=1e6 * took / batch,
            )


_rate: dict[str, float] = {}


def bytes_a_second(part: Part) -> float:
    """Of a copy on the device, read and written."""
    import torch

    if part.device not in _rate:
        there = torch.empty(4_000_000 if part.small else 250_000_000, dtype=torch.float32, device=part.device)
        other = torch.empty_like(there)
        _rate[part.device] = 8 * there.numel() / queued_s(lambda: other.copy_(there), part.device, 10)
        part.figure("copy on the device", _rate[part.device] / 1e12, "TB/s")
    return _rate[part.device]


def projections(part: Part) -> None:
    """The differentiable projection of a vessel mask: forward and backward to the pose."""
    import torch

    from DeepIterRegLib.rendering.splat import splat

    rng = np.random.default_rng(24)
    for rows, count, batch in ((32, 500, 2),) if part.small else ((256, 150_000, 1), (64, 4000, 1), (64, 4000, 512)):
        positions, weights, cameras = projected(rng, rows, count, batch)
        there = torch.tensor(positions, device=part.device), torch.tensor(weights, device=part.device)
        at = torch.tensor(cameras, device=part.device, requires_grad=True)
        carm = view(rows)
        gradient = torch.rand(batch, carm.rows, carm.columns, device=part.device)

        def both(at: Any = at, there: Any = there, carm: Any = carm, gradient: Any = gradient) -> None:
            at.grad = None
            splat(at, *there, carm).backward(gradient)

        took, queued = median_s(both, part.device, seconds=0.5), queued_s(both, part.device)
        limit_s = (2 * 16 * len(weights) * 1 + 2 * 4 * batch * rows * rows) / bytes_a_second(part)
        part.figure(
            f"projection forward and backward, {len(weights)} points, {rows} rows, {batch} poses",
            1000 * took,
            "ms",
            queued_ms=1000 * queued,
            microseconds_a_pose=1e6 * queued / batch,
            limit_ms=1000 * limit_s,
        )


def same_projection(part: Part) -> None:
    """Image and gradient of the card's projection beside the CPU's."""
    import torch

    from DeepIterRegLib.rendering.splat import splat

    rng = np.random.default_rng(27)
    for rows, count, batch in ((256, 150_000, 1), (64, 4000, 5)):
        positions, weights, cameras = projected(rng, rows, count, batch)
        carm = view(rows)
        by_image = torch.rand(batch, carm.rows, carm.columns)
        found = []
        for device in (part.device, "cpu"):
            there = torch.tensor(positions, device=device), torch.tensor(weights, device=device)
            at = torch.tensor(cameras, device=device, requires_grad=True)
            image = splat(at, *there, carm)
            image.backward(by_image.to(device))
            assert at.grad is not None
            found.append((image.detach().cpu().numpy(), at.grad.cpu().numpy()))
        part.check(f"projection, {rows} rows: image", apart(found[1][0], found[0][0]), RELATIVE)
        part.check(f"projection, {rows} rows: gradient", apart(found[1][1], found[0][1]), 1e-3)


def attempt(part: Part, what: str, work: Callable[[], None]) -> bool:
    """Whether the work ended; what stops it is a failed check and does not stop the others."""
    import traceback

    try:
        work()
    except Exception as error:
        traceback.print_exc()
        part.failed.append(what)
        part.figure(f"{what} ended early", f"{type(error).__name__}: {error}"[:300])
        return False
    return True


def main(argv: Sequence[str] | None = None) -> None:
    part, more = gpu_parts.options("kernels", __doc__ or "", argv, "what")
    import torch

    from DeepIterRegLib.registration.compute import operations
    from DeepIterRegLib.registration.compute.tensors import TorchBackend
    from DeepIterRegLib.rendering.triton_check import triton_runs

    on_card = part.device.startswith("cuda")
    made: dict[str, Any] = {}
    if on_card:
        part.figure("card", torch.cuda.get_device_name(part.device))
        part.check("Triton's kernels are not those taken", float(not triton_runs("cuda:0")), 0)
        from DeepIterRegLib.registration.compute import fused

        made["Triton"] = TorchBackend(part.device, fused)
    made["torch"] = TorchBackend(part.device, operations)
    if more.what in (None, "figures"):
        for name, backend in made.items():
            levels = LEVELS if name == "Triton" else (LEVELS[0], LEVELS[4])
            attempt(part, f"{name}, steps", partial(steps, part, backend, name, levels))
        attempt(part, "projection", lambda: projections(part))
        if on_card:
            attempt(part, "profile", lambda: profiled(part, made["Triton"]))
            attempt(part, "graphs", lambda: graphed(part))
    if more.what in (None, "checks"):
        for name, backend in made.items():
            attempt(part, f"{name}, checks", partial(compare, part, backend, name))
        if on_card:
            attempt(part, "projection, checks", lambda: same_projection(part))
    if on_card:
        part.figure("memory at most", torch.cuda.max_memory_allocated() / 1e9, "GB")
    sys.exit(1 if part.failed else 0)


if __name__ == "__main__":
    main()
