"""Forward + backward to the pose of one whole-head vessel mask: our splatter beside DiffDRR and nanodrr, same CPU, same run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import benchmarking
import memory
import numpy as np
from benchmarking import ROOT, Options, table, verdict

TARGET_RATIO = 2000
PHANTOM_SEED, VOXELS = 1, 150_000
# 0.4 mm pixels of a 400 mm detector, four by four; a pose off the axes, so that no ray runs along voxel planes.
DETECTOR_MM, SID_MM, SOD_MM = 400.0, 1100.0, 750.0
TURN_DEG, SHIFT_MM = (7.0, -11.0, 5.0), (6.0, 9.0, -8.0)


# -- renderers: each takes a volume and a view, and gives a function of the pose (1, 4, 4) to an image (rows, columns) --


def splat(volume: Any, carm: Any) -> Callable[[Any], Any]:
    from DeepIterRegLib.rendering.splat import SplatProjector

    project = SplatProjector.from_mask(volume, carm)
    return lambda pose: project(pose)[0]


def splat_torch(volume: Any, carm: Any) -> Callable[[Any], Any]:
    import torch

    from DeepIterRegLib.rendering import splat as ours

    project = ours.SplatProjector.from_mask(volume, carm)

    def render(pose: Any) -> Any:
        cameras = ours.cameras_from_poses(pose, carm, project.centre_mm).to(torch.float32)
        return ours.splat_torch(project.points, project.weights, cameras, carm)[0]

    return render


def raycast(method: str) -> Callable[[Any, Any], Callable[[Any], Any]]:
    def build(volume: Any, carm: Any) -> Callable[[Any], Any]:
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        project = RaycastProjector(volume, carm, method=method)
        return lambda pose: project(pose)[0]

    return build


def diffdrr(renderer: str, patch_px: int | None = None) -> Callable[[Any, Any], Callable[[Any], Any]]:
    """DiffDRR's own class, camera axes column, against row, beam; `patch_px` is its way to bound memory."""

    def build(volume: Any, carm: Any) -> Callable[[Any], Any]:
        import torch
        from diffdrr.drr import DRR
        from diffdrr.pose import RigidTransform

        density = torch.as_tensor(volume.voxels.astype(np.float32)).permute(2, 1, 0).contiguous()
        subject = SimpleNamespace(
            volume=SimpleNamespace(affine=volume.affine),
            density=SimpleNamespace(data=density[None]),
            mask=None,
            reorient=torch.eye(4),
        )
        row_mm, column_mm = carm.pixel_spacing_mm
        project = DRR(
            subject,
            sdd=carm.sid_mm,
            height=carm.rows,
            width=carm.columns,
            delx=column_mm,
            dely=row_mm,
            reverse_x_axis=False,
            renderer=renderer,
            patch_size=patch_px,
        )
        u, v, d = carm.axes
        camera_to_carm = _camera_to_carm(carm, (u, -v, d))
        return lambda pose: project(RigidTransform(_inverse(pose) @ camera_to_carm))[0, 0]

    return build


def nanodrr(volume: Any, carm: Any) -> Callable[[Any], Any]:
    import torch
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    image = torch.as_tensor(volume.voxels.astype(np.float32))[None, None]
    affine = torch.as_tensor(volume.affine, dtype=torch.float32)
    subject = Subject(
        image,
        torch.zeros_like(image),
        affine,
        affine.inverse(),
        Subject._make_voxel_to_grid(image.shape),
        torch.as_tensor(volume.centre_mm, dtype=torch.float32),
        max_label=0,
        convert_to_mu=False,
    )
    row_mm, column_mm = carm.pixel_spacing_mm
    project = DRR.from_carm_intrinsics(carm.sid_mm, column_mm, row_mm, 0.0, 0.0, carm.rows, carm.columns)
    camera_to_carm = _camera_to_carm(carm, carm.axes)
    return lambda pose: project(subject, _inverse(pose) @ camera_to_carm, backend="torch")[0, 0]


RENDERERS: dict[str, tuple[str, Callable[[Any, Any], Callable[[Any], Any]]]] = {
    "splat": ("splat, compiled kernel (ours)", splat),
    "splat_torch": ("splat, torch operations (ours, for CUDA)", splat_torch),
    "diffdrr_siddon": ("DiffDRR `DRR`, Siddon", diffdrr("siddon")),
    "diffdrr_siddon_patches": ("DiffDRR `DRR`, Siddon, patches of 64 px", diffdrr("siddon", 64)),
    "raycast_siddon": ("DiffDRR Siddon through our `RaycastProjector`", raycast("siddon")),
    "diffdrr_trilinear": ("DiffDRR `DRR`, trilinear, its 500 samples", diffdrr("trilinear")),
    "raycast_trilinear": ("DiffDRR trilinear through our `RaycastProjector`", raycast("trilinear")),
    "nanodrr": ("nanodrr torch, its 500 samples", nanodrr),
}
SIDDON = ("diffdrr_siddon", "diffdrr_siddon_patches", "raycast_siddon")
# Of DiffDRR's graph for one plane of voxels crossed by one ray, as measured on small images.
_SIDDON_BYTES = 90


def _camera_to_carm(carm: Any, axes: Any) -> Any:
    import torch

    matrix = torch.eye(4)
    matrix[:3, :3] = torch.as_tensor(np.array(axes).T)
    matrix[:3, 3] = torch.tensor(carm.source_mm)
    return matrix[None]


def _inverse(pose: Any) -> Any:
    from DeepIterRegLib.geometry import pose as charts

    return charts.inverse(pose)


# -- the volume and the view ------------------------------------------------------------------------------


def vessel_volume(small: bool) -> Any:
    """The 150,000 brightest vessel voxels of a phantom's CTA, cropped to content, so no renderer casts through empty margins."""
    from DeepIterRegLib.phantom import PhantomSettings, make_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings
    from DeepIterRegLib.volume import Volume

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


def measure_one(name: str, folder: Path, rows: int, seconds_wanted: float) -> dict[str, Any]:
    """Median seconds and peak memory of one renderer; its image goes to `<name>.npy`."""
    import torch

    from DeepIterRegLib.volume import Volume

    stored = np.load(folder / "volume.npz")
    volume, carm = Volume(stored["voxels"], stored["affine"]), view(rows)
    _, build = RENDERERS[name]
    # Compile and import on a trifle first: neither belongs to a rendering's time or memory.
    trifle = Volume(volume.voxels[:8, :8, :8] | 1, volume.affine)
    _forward_backward(build(trifle, view(128)), torch.as_tensor(pose_of(trifle))[None])
    before_mb = memory.resident_mb()
    memory.reset_peak()
    pose = torch.as_tensor(pose_of(volume), dtype=torch.float32)[None]
    render = build(volume, carm)
    times = []
    at_least = 3 if seconds_wanted > 1 else 1
    while len(times) < at_least or (sum(times) < seconds_wanted and len(times) < 300):
        begin = time.perf_counter()
        image = _forward_backward(render, pose)
        times.append(time.perf_counter() - begin)
    np.save(folder / f"{name}.npy", image)
    return {
        "seconds": float(np.median(times)),
        "fastest_s": min(times),
        "repeats": len(times),
        "peak_mb": memory.peak_mb() - before_mb,
    }


def _forward_backward(render: Callable[[Any], Any], pose: Any) -> np.ndarray:
    import torch

    pose = pose.clone().to(torch.float32).requires_grad_()
    image = render(pose)
    (image * image).sum().backward()
    assert pose.grad is not None
    return np.asarray(image.detach())


def _in_process(name: str, folder: Path, rows: int, seconds_wanted: float) -> dict[str, Any]:
    """The figures, or why there are none."""
    command = [sys.executable, __file__, "--one", name, str(folder), str(rows), str(seconds_wanted)]
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

    from DeepIterRegLib.alignment import FIND, make_target, normal_equations, vessel_channels
    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.pipeline import vessel_points
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
        normal_equations(points, poses, target, 5.0)

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
            n_points * (230 + 24 * 30) + pixels * 24 * 2 * (1 + 4 * taps) + pixels * 500,
            n_points * (28 + 2 * 4 * 96) + pixels * 96 * 7,
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


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("renderer", __doc__ or "", argv)
    folder = benchmarking.CACHE / ("renderer-small" if options.small else "renderer")
    folder.mkdir(parents=True, exist_ok=True)
    rows = 64 if options.small else 256
    volume = vessel_volume(options.small)
    np.savez(folder / "volume.npz", voxels=volume.voxels, affine=volume.affine)
    names = list(RENDERERS)[: options.limit]
    figures = {}
    for name in names:
        needed_gb = _SIDDON_BYTES * rows**2 * sum(volume.voxels.shape) / 1e9
        if name.startswith("diffdrr_siddon") and needed_gb > 0.7 * benchmarking.memory_gb("MemAvailable"):
            figures[name] = {"error": f"needs about {needed_gb:.0f} GB"}
            continue
        figures[name] = _in_process(name, folder, rows, 0.2 if options.small else 25.0)
        print(f"  {name}: {figures[name]}", flush=True)
    _write(options, volume, rows, figures, folder)


def _write(options: Options, volume: Any, rows: int, figures: dict[str, Any], folder: Path) -> None:
    ours = figures["splat"]["seconds"]
    reference = next(
        (np.load(folder / f"{n}.npy") for n in SIDDON if "error" not in figures.get(n, {"error": 1})), None
    )
    lines = []
    for name, values in figures.items():
        label = RENDERERS[name][0]
        if "error" in values:
            lines.append([label, "-", "-", "-", "-", values["error"], "-"])
            continue
        image = np.load(folder / f"{name}.npy")
        agrees = "-" if reference is None else f"{_agreement(image, reference):.4f}"
        lines.append(
            [
                label,
                f"{values['seconds'] * 1e3:,.2f}",
                f"{values['fastest_s'] * 1e3:,.2f}",
                f"{values['peak_mb']:,.0f}",
                f"{values['seconds'] / ours:,.0f}",
                values["repeats"],
                agrees,
            ]
        )
    siddon = [figures[n] for n in SIDDON if "error" not in figures.get(n, {"error": 1})]
    k, j, i = volume.voxels.shape
    body = [
        f"{int((volume.voxels > 0).sum()):,} vessel voxels in a box of {i} x {j} x {k} "
        f"({', '.join(f'{s:.2f}' for s in volume.spacing_mm)} mm), {rows} x {rows} px, one pose, float32, {benchmarking.cores()} cores.",
        "",
        table(
            [
                "renderer",
                "forward + backward, ms",
                "fastest",
                "peak memory, MB",
                "times ours",
                "repeats",
                "correlation",
            ],
            lines,
        ),
        "",
        "Median and fastest of the repeats; the factor is of medians. Memory: highest above what the process held before "
        "the renderer was built. "
        "Correlation: with DiffDRR's Siddon image, both averaged over 4 x 4 px "
        "(a splatted voxel is a point, so single pixels differ).",
    ]
    if siddon:
        plain = figures["diffdrr_siddon"]["seconds"] / ours if "seconds" in figures["diffdrr_siddon"] else 0.0
        quickest = min(values["seconds"] for values in siddon) / ours
        body += [
            "",
            f"Against DiffDRR's Siddon as it comes: {plain:,.0f} times faster by medians; target {TARGET_RATIO}: "
            f"{verdict(plain >= TARGET_RATIO)}. Against the quickest way found to use it (rays that miss left out, small "
            f"patches): {quickest:,.0f} times.",
        ]
    header = ["batched", "us a pose", "Mflop a pose", "Gflop/s", "us at matrix speed", "MB a pose", "us at copy speed"]
    body += [
        "",
        table(header, batches(volume, options.small)),
        "",
        "Operations and bytes are counted by hand from the kernels. 'At matrix speed' and 'at copy speed' are what they would "
        "take at the speed of a float32 matrix product and of a large copy on this machine in this run: a floor for the "
        "arithmetic, and for the traffic where the caches do not hold the image.",
    ]
    benchmarking.write_result("renderer", "Renderer: splat beside ray casters", "\n".join(body), options)


def _agreement(image: np.ndarray, reference: np.ndarray) -> float:
    def coarse(a: np.ndarray) -> np.ndarray:
        return a.reshape(a.shape[0] // 4, 4, a.shape[1] // 4, 4).mean(axis=(1, 3)).ravel()

    return float(np.corrcoef(coarse(image), coarse(reference))[0, 1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure_one(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))))
    else:
        main()
