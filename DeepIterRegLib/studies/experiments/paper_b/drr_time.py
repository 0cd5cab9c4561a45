"""How long a DRR takes (B Table 1)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table
from DeepIterRegLib.studies.experiments.objects import Item, Study, chest_ct, coarsened
from DeepIterRegLib.studies.experiments.paper_b import scene
from DeepIterRegLib.studies.experiments.papers import PAPER_B

# B Table 1, on a Tesla T4: side and patch in px (0: whole), ms.
TABLE_1 = {
    (100, 0): 21.2, (200, 0): 70.1, (300, 0): 150.0, (400, 0): 265.0, (500, 0): 393.0, (600, 0): 600.0,
    (600, 150): 320.0, (900, 150): 601.0, (1200, 150): 1140.0, (1500, 150): 1700.0, (1800, 150): 1490.0,
    (1024, 16): 7450.0, (1024, 32): 1970.0, (1024, 64): 1080.0, (1024, 128): 859.0, (1024, 256): 881.0, (1024, 512): 1230.0,
}  # fmt: skip
RENDERERS = {
    "splat": "splat of the vessels (ours)",
    "siddon": "DiffDRR Siddon of the chest",
    "nanodrr": "nanodrr of the chest",
}
REPEATS, BUDGET_S, LONGEST_S = 15, 8.0, 60.0
CHEST_MM, SMALL_CHEST_MM = 2.8, 12.0  # four voxels of the chest CT across; for a small trial
_SIDDON_BYTES = 40  # of one plane of voxels crossed by one ray, forward
_MOST_GIGABYTES = 6  # of a processor's memory: more than most laptops have free
_PROBE_PX = 32  # side of an image that tells how long a larger one takes

Project = Callable[[torch.Tensor], torch.Tensor]


def time_items(study: Study, n: int) -> list[Item]:
    """Renderers, devices, sizes; n: repeats at most."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    sizes = [(32, 0), (64, 16)] if study.small else list(TABLE_1)
    return [
        {
            "renderer": renderer,
            "device": device,
            "size": size,
            "patch": patch,
            "repeats": n,
            "subject": study.subjects(1)[0],
        }
        for renderer, device, (size, patch) in itertools.product(RENDERERS, devices, sizes)
        if not (renderer != "siddon" and patch)
    ]


def time_work(study: Study, item: Item) -> dict[str, Any]:
    """Milliseconds of one DRR, forward: mean and spread; or why there are none."""
    render, reason = _renderer(study, item)
    if render is None:
        return {"absent": reason}
    render()  # compiles
    times: list[float] = []
    while len(times) < item["repeats"] and sum(times) < 1000 * BUDGET_S:
        begin = time.perf_counter()
        render()
        times.append(1000 * (time.perf_counter() - begin))
    return {"ms": float(np.mean(times)), "spread_ms": float(np.std(times)), "repeats": len(times)}


def _renderer(study: Study, item: Item) -> tuple[Callable[[], None] | None, str]:
    """A function that renders once and waits until it is there, or None and why."""
    size, patch, device = item["size"], item["patch"] or item["size"], item["device"]
    project: Project
    if item["renderer"] == "splat":
        _, vessels = scene.volumes(study, item["subject"])
        from DeepIterRegLib.rendering.splat import SplatProjector

        project, centre = SplatProjector.from_mask(vessels, scene.view(size), device), vessels.centre_mm
    elif item["renderer"] == "siddon":
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        volume = _chest_attenuation(study.small)
        centre = volume.centre_mm
        if reason := _too_much(volume, size, patch, device):
            return None, reason
        project = RaycastProjector(volume, scene.view(size), patch_px=patch, device=device)
    else:
        try:
            project, centre = _nanodrr(study.small, scene.view(size), device)
        except ImportError:
            return None, "nanodrr is not installed"
    return (lambda: _once(project, centre, device)), ""


def _too_much(volume: Volume, size: int, patch: int, device: str) -> str:
    """Why an image is not ray-cast; empty if it is: memory, or a time that a few rays foretell, so that nobody waits an hour."""
    from DeepIterRegLib.rendering.raycast import RaycastProjector

    gigabytes = patch**2 * sum(volume.voxels.shape) * _SIDDON_BYTES / 1e9
    if gigabytes > _MOST_GIGABYTES and device == "cpu":
        return f"needs about {gigabytes:.0f} GB whole"
    few = min(size, _PROBE_PX)
    probe = RaycastProjector(volume, scene.view(few), patch_px=min(patch, _PROBE_PX), device=device)
    _once(probe, volume.centre_mm, device)  # the first one also loads and compiles
    begin = time.perf_counter()
    _once(probe, volume.centre_mm, device)
    expected_s = (time.perf_counter() - begin) * (size / few) ** 2
    return f"would take about {expected_s:.0f} s" if expected_s > LONGEST_S else ""


def _once(project: Project, centre_mm: np.ndarray, device: str) -> None:
    with torch.no_grad():
        project(torch.as_tensor(pose.radiological(centre_mm), device=device)[None])
    if device == "cuda":
        torch.cuda.synchronize()


@lru_cache(maxsize=1)
def _chest_attenuation(small: bool) -> Volume:
    from DeepIterRegLib.rendering.raycast import attenuation_per_mm

    return attenuation_per_mm(coarsened(chest_ct(), SMALL_CHEST_MM if small else CHEST_MM))


def _nanodrr(small: bool, carm: Any, device: str) -> tuple[Project, np.ndarray]:
    from nanodrr.data import Subject
    from nanodrr.drr import DRR

    volume = _chest_attenuation(small)
    image = torch.as_tensor(volume.voxels.astype(np.float32), device=device)[None, None]
    affine = torch.as_tensor(volume.affine, dtype=torch.float32, device=device)
    centre = torch.as_tensor(volume.centre_mm, dtype=torch.float32, device=device)
    grid = Subject._make_voxel_to_grid(image.shape).to(device)
    what = Subject(
        image, torch.zeros_like(image), affine, affine.inverse(), grid, centre, max_label=0, convert_to_mu=False
    )
    row_mm, column_mm = carm.pixel_spacing_mm
    drr = DRR.from_carm_intrinsics(carm.sid_mm, column_mm, row_mm, 0.0, 0.0, carm.rows, carm.columns).to(device)
    camera = torch.eye(4, device=device)
    camera[:3, :3] = torch.as_tensor(np.array(carm.axes).T, device=device)
    camera[:3, 3] = torch.tensor(carm.source_mm, device=device)

    def project(cta_to_carm: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = drr(what, pose.inverse(cta_to_carm.float()) @ camera[None], backend="torch")[:, 0]
        return image

    return project, volume.centre_mm


Kind = tuple[str, str]  # renderer, device
Found = dict[tuple[str, str, int, int], dict[str, Any]]  # renderer, device, size, patch: the result


def time_summary(study: Study, done: list[Done]) -> Summary:
    """Table 1 beside ours, and a curve over the size."""
    found: Found = {(i["renderer"], i["device"], i["size"], i["patch"]): r for i, r in done}
    kinds = list(dict.fromkeys((i["renderer"], i["device"]) for i, _ in done))
    sizes = list(dict.fromkeys((i["size"], i["patch"]) for i, _ in done))
    names = [f"{RENDERERS[r]}, {d}, ms" for r, d in kinds]
    table = [_line(size, patch, kinds, found) for size, patch in sizes]
    comparison = [
        (
            f"{cells[0]}, {cells[1]}",
            cells[2] + " ms (Tesla T4)",
            "; ".join(f"{n}: {c}" for n, c in zip(names, cells[3:], strict=True)),
        )
        for cells in table
        if cells[0].startswith(("200 ", "600 ")) or study.small
    ]
    return Summary(
        comparison,
        [
            _row(kind, size, patch, r)
            for size, patch in sizes
            for kind in kinds
            if (r := found.get((*kind, size, patch)))
        ],
        {f"{r}, {d}, {s}, {p}": found[(r, d, s, p)].get("ms") for (r, d, s, p) in found},
        [
            Table(
                "Milliseconds of one image",
                ["size", "in patches of", "paper B, T4", *names],
                table,
                "Crosses in the plot: in patches.",
            )
        ],
        {"drr_time": ("Time of one image", _drawing(kinds, sizes, found))},
    )


def _line(size: int, patch: int, kinds: list[Kind], found: Found) -> list[str]:
    """Of the table, for people."""
    paper = TABLE_1.get((size, patch))
    results = [found.get((*kind, size, patch)) for kind in kinds]
    return [
        f"{size} x {size}",
        f"{patch} px" if patch else "whole",
        "-" if paper is None else f"{paper:g}",
        *("-" if result is None else _ms(result) for result in results),
    ]


def _ms(result: dict[str, Any]) -> str:
    if "ms" not in result:
        return str(result["absent"])
    return f"{result['ms']:.3g} ± {result['spread_ms']:.2g} ({result['repeats']})"


def _row(kind: Kind, size: int, patch: int, result: dict[str, Any]) -> dict[str, Any]:
    """Of the CSV."""
    return {
        "renderer": kind[0],
        "device": kind[1],
        "size_px": size,
        "patch_px": patch,
        "ms": result.get("ms", float("nan")),
        "spread_ms": result.get("spread_ms", float("nan")),
        "repeats": result.get("repeats", 0),
        "absent": result.get("absent", ""),
        "paper_t4_ms": TABLE_1.get((size, patch), float("nan")),
    }


def _drawing(kinds: list[Kind], sizes: list[tuple[int, int]], found: Found) -> Any:
    """Time over the size: lines for whole images, crosses for those in patches; ours and the paper's."""
    from DeepIterRegLib.studies.experiments import plots

    drawing, axes = plots.figure(6.4, 5.2)
    for kind, colour in zip(kinds, plots.COLOURS, strict=False):
        measured = [(s, p, r["ms"]) for s, p in sizes if (r := found.get((*kind, s, p))) and "ms" in r]
        label = f"{RENDERERS[kind[0]]}, {kind[1]}"
        _points(axes, [(s, ms) for s, p, ms in measured if not p], "-o", ms=4, color=colour, label=label)
        _points(axes, [(s, ms) for s, p, ms in measured if p], "x", ms=5, color=colour)
    paper = sorted((size, patch, ms) for (size, patch), ms in TABLE_1.items())
    _points(axes, [(s, ms) for s, p, ms in paper if not p], "--", color="0.4", label="paper B, Tesla T4")
    _points(axes, [(s, ms) for s, p, ms in paper if p], "x", ms=5, color="0.4")
    axes.plot([], [], "x", ms=5, color="k", label="in patches (of 150 px, and others at 1024)")
    axes.set(xlabel="side of the image, px", ylabel="time of one image, ms", yscale="log")
    plots.legend(drawing)
    return drawing


def _points(axes: Any, points: list[tuple[int, float]], style: str, **options: Any) -> None:
    if points:
        axes.plot(*zip(*points, strict=True), style, **options)


DRR_TIME = Experiment(
    "How long a DRR takes",
    PAPER_B,
    "Paper B, Table 1",
    "One image, forward, mean of up to 15 (fewer where 8 s are over). Splatting projects the head phantom's vessels, ray casting the chest "
    "CT that comes with DiffDRR at 2.8 mm; the paper's object is not named. What would take more than a minute, or more memory than "
    "usual, is not measured and says so.",
    "repeats",
    REPEATS,
    2,
    time_items,
    time_work,
    time_summary,
)
