"""Paper B's experiments: time of a DRR, loss landscape, optimisers, and a thousand random poses."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.papers import similarity
from DeepIterRegLib.studies.experiments import metrics, scene_b
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table, rounded
from DeepIterRegLib.studies.experiments.objects import Item, Study, chest_ct, coarsened, random_starts

# -- drr-time ---------------------------------------------------------------------------------------------

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
CHEST_MM = 2.8  # four voxels of the chest CT across
_SIDDON_BYTES = 40  # of one plane of voxels crossed by one ray, forward


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
    carm = scene_b.view(size)
    project: Callable[[torch.Tensor], torch.Tensor]
    if item["renderer"] == "splat":
        _, vessels = scene_b.volumes(study, item["subject"])
        from DeepIterRegLib.rendering.splat import SplatProjector

        project, centre = SplatProjector.from_mask(vessels, carm, device), vessels.centre_mm
    elif item["renderer"] == "siddon":
        from DeepIterRegLib.rendering.raycast import RaycastProjector

        volume = _chest_attenuation(study.small)
        gigabytes = patch**2 * sum(volume.voxels.shape) * _SIDDON_BYTES / 1e9
        if gigabytes > 6 and device == "cpu":
            return None, f"needs about {gigabytes:.0f} GB whole"
        project, centre = RaycastProjector(volume, carm, patch_px=patch, device=device), volume.centre_mm
        # A few rays tell how long the image takes, so that nobody waits an hour for one number.
        probe = RaycastProjector(volume, scene_b.view(min(size, 32)), patch_px=min(patch, 32), device=device)
        probe_s = _timed(probe, centre, device)
        if (expected_s := probe_s * (size / min(size, 32)) ** 2) > LONGEST_S:
            return None, f"would take about {expected_s:.0f} s"
    else:
        try:
            project, centre = _nanodrr(study.small, carm, device)
        except ImportError:
            return None, "nanodrr is not installed"
    return (lambda: _once(project, centre, device)), ""


def _timed(project: Callable[[torch.Tensor], torch.Tensor], centre_mm: np.ndarray, device: str) -> float:
    _once(project, centre_mm, device)
    begin = time.perf_counter()
    _once(project, centre_mm, device)
    return time.perf_counter() - begin


def _once(project: Callable[[torch.Tensor], torch.Tensor], centre_mm: np.ndarray, device: str) -> None:
    with torch.no_grad():
        project(torch.as_tensor(pose.radiological(centre_mm), device=device)[None])
    if device == "cuda":
        torch.cuda.synchronize()


@lru_cache(maxsize=1)
def _chest_attenuation(small: bool) -> Volume:
    from DeepIterRegLib.rendering.raycast import attenuation_per_mm

    return attenuation_per_mm(coarsened(chest_ct(), 12.0 if small else CHEST_MM))


def _nanodrr(small: bool, carm: Any, device: str) -> tuple[Callable[[torch.Tensor], torch.Tensor], np.ndarray]:
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


def time_summary(study: Study, done: list[Done]) -> Summary:
    """Table 1 beside ours, and a curve over the size."""
    from DeepIterRegLib.studies.experiments import plots

    found = {(i["renderer"], i["device"], i["size"], i["patch"]): r for i, r in done}
    kinds = list(dict.fromkeys((i["renderer"], i["device"]) for i, _ in done))
    sizes = list(dict.fromkeys((i["size"], i["patch"]) for i, _ in done))
    rows, table = [], []
    for size, patch in sizes:
        paper = TABLE_1.get((size, patch))
        cells = [f"{size} x {size}", f"{patch} px" if patch else "whole", "-" if paper is None else f"{paper:g}"]
        for kind in kinds:
            result = found.get((*kind, size, patch))
            cells.append("-" if result is None else _ms(result))
            if result is not None:
                rows.append(
                    {
                        "renderer": kind[0],
                        "device": kind[1],
                        "size_px": size,
                        "patch_px": patch,
                        "ms": result.get("ms", float("nan")),
                        "spread_ms": result.get("spread_ms", float("nan")),
                        "repeats": result.get("repeats", 0),
                        "absent": result.get("absent", ""),
                        "paper_t4_ms": paper if paper is not None else float("nan"),
                    }
                )
        table.append(cells)
    drawing, axes = plots.figure(6.4, 5.2)
    for kind, colour in zip(kinds, plots.COLOURS, strict=False):
        points = [
            (size, r["ms"])
            for size, patch in sizes
            if (r := found.get((*kind, size, patch))) and "ms" in r and not patch
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "-o", ms=4, color=colour, label=f"{RENDERERS[kind[0]]}, {kind[1]}")
        patched = [
            (size, r["ms"]) for size, patch in sizes if (r := found.get((*kind, size, patch))) and "ms" in r and patch
        ]
        if patched:
            axes.plot(*zip(*patched, strict=True), "x", ms=5, color=colour)
    whole = sorted((size, ms) for (size, patch), ms in TABLE_1.items() if not patch)
    axes.plot(*zip(*whole, strict=True), "--", color="0.4", label="paper B, Tesla T4")
    axes.set(xlabel="side of the image, px", ylabel="time of one image, ms", yscale="log")
    patched = sorted((size, ms) for (size, patch), ms in TABLE_1.items() if patch)
    axes.plot(*zip(*patched, strict=True), "x", ms=5, color="0.4")
    axes.plot([], [], "x", ms=5, color="k", label="in patches (of 150 px, and others at 1024)")
    plots.legend(drawing)
    names = [f"{RENDERERS[r]}, {d}, ms" for r, d in kinds]
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
        rows,
        {f"{r}, {d}, {s}, {p}": found[(r, d, s, p)].get("ms") for (r, d, s, p) in found},
        [
            Table(
                "Milliseconds of one image",
                ["size", "in patches of", "paper B, T4", *names],
                table,
                "Crosses in the plot: in patches.",
            )
        ],
        {"drr_time": ("Time of one image", drawing)},
    )


def _ms(result: dict[str, Any]) -> str:
    return (
        f"{result['ms']:.3g} ± {result['spread_ms']:.2g} ({result['repeats']})"
        if "ms" in result
        else str(result["absent"])
    )


# -- landscape --------------------------------------------------------------------------------------------

AXES = (
    "turn R",
    "turn A",
    "turn S",
    "shift R",
    "shift A",
    "shift S",
)  # about and along the C-arm's axes; A is the beam (AP)
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "NCC": lambda m, f: (
        1 - (m * f).sum((-2, -1)) / ((m**2).sum((-2, -1)) * (f**2).sum((-2, -1))).sqrt().clamp_min(1e-12)
    ),
    "ZNCC": lambda m, f: 1 - similarity.zncc(m, f),
    "MI": lambda m, f: -similarity.mutual_information(m, f),
    "L2": lambda m, f: -similarity.negative_l2(m, f),
    "gradient": lambda m, f: 1 - similarity.gradient_correlation(m, f),
}


def landscape_items(study: Study, n: int) -> list[Item]:
    """Pairs of axes of each object; n: poses along an axis."""
    steps = n if n % 2 else n + 1  # so that the truth is one of them
    whose = study.subjects(1)[0]
    objects = ["skull", "vessels", "chest"] if not study.cases else ["skull", "vessels"]
    return [
        {"object": kind, "subject": whose, "axes": [a, b], "steps": steps}
        for kind in objects
        for a, b in itertools.combinations(range(6), 2)
    ]


def landscape_work(study: Study, item: Item) -> dict[str, Any]:
    """Each loss (steps, steps) over a pair of axes about the truth."""
    of = scene_b.scene(study, item)
    reach = np.array([scene_b.ROTATION_DEG] * 3 + [scene_b.TRANSLATION_MM] * 3)
    grid = np.linspace(-1, 1, item["steps"])
    offsets = np.zeros((len(grid) ** 2, 6))
    a, b = item["axes"]
    offsets[:, a], offsets[:, b] = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    offsets *= reach
    poses = pose.offset_about(of.truth, of.centre_mm, pose.euler_deg_to_rotation(offsets[:, :3]), offsets[:, 3:])
    project, fixed = of.projector(), of.image()
    values: dict[str, list[float]] = {name: [] for name in LOSSES}
    with torch.no_grad():
        for some in torch.from_numpy(np.asarray(poses)).split(64):
            image = project(some).double()
            for name, loss in LOSSES.items():
                values[name].extend(loss(image, fixed).tolist())
    return {name: np.round(np.reshape(v, (len(grid), len(grid))), 6).tolist() for name, v in values.items()}


def landscape_summary(study: Study, done: list[Done]) -> Summary:
    """Contours of ZNCC, profiles of all losses, and how far along each axis a loss falls all the way to the truth."""
    from DeepIterRegLib.studies.experiments import plots

    reach = dict(zip(AXES, [scene_b.ROTATION_DEG] * 3 + [scene_b.TRANSLATION_MM] * 3, strict=True))
    objects = list(dict.fromkeys(item["object"] for item, _ in done))
    drawings, rows, table, figures = {}, [], [], {}
    for kind in objects:
        mine = [(item, result) for item, result in done if item["object"] == kind]
        grids = {(AXES[item["axes"][0]], AXES[item["axes"][1]]): np.array(result["ZNCC"]) for item, result in mine}
        drawings[f"landscape_{kind}"] = (
            f"Loss 1 - ZNCC: {scene_b.OBJECTS[kind]} (B Fig. 5)",
            plots.landscapes(grids, reach, "loss, 1 - ZNCC"),
        )
        drawing, axes = plots.figure(9.6, 5.8, 2, 3)
        basins: dict[str, list[str]] = {name: [] for name in LOSSES}
        for n, (axis, one) in enumerate(zip(AXES, axes.ravel(), strict=True)):
            for name, colour in zip(LOSSES, plots.COLOURS, strict=False):
                profile = _profile(mine, n, name)
                x = np.linspace(-reach[axis], reach[axis], len(profile))
                low, high = profile.min(), profile.max()
                one.plot(x, (profile - low) / max(high - low, 1e-12), color=colour, lw=1.2, label=name)
                basin = basin_width(x, profile)
                basins[name].append(f"{basin:.0f}")
                rows.append(
                    {"object": kind, "axis": axis, "loss": name, "basin": basin, "unit": "deg" if n < 3 else "mm"}
                )
                figures[f"{kind}, {name}, {axis}"] = basin
            one.set_xlabel(plots.with_unit(axis), fontsize=9)
        for one in axes[:, 0]:
            one.set_ylabel("loss, scaled to 0..1", fontsize=9)
        plots.legend(drawing, columns=len(LOSSES))
        drawings[f"profiles_{kind}"] = (
            f"Losses along single axes: {scene_b.OBJECTS[kind]}",
            drawing,
        )
        table += [[scene_b.OBJECTS[kind], name, *cells] for name, cells in basins.items()]
    zncc = {row["object"]: [] for row in rows}  # type: ignore[var-annotated]
    for row in rows:
        if row["loss"] == "ZNCC":
            zncc[row["object"]].append(f"{row['axis']} {row['basin']:.0f} {row['unit']}")
    note = "How far from the truth, on the worse side, the loss falls without a break on the way to it; half a range of 45 deg or 60 mm is all."
    return Summary(
        [(f"1 - ZNCC falls all the way to the truth: {scene_b.OBJECTS[kind]}", "locally convex (Fig. 5, no figures)", ", ".join(v)) for kind, v in zncc.items()],
        rows,
        figures,
        [Table("Basin along each axis, deg and mm", ["object", "loss", *AXES], table, note)],
        drawings,
    )  # fmt: skip


def _profile(mine: list[Done], axis: int, name: str) -> np.ndarray:
    """A loss along one axis, through the truth, from any grid that has the axis."""
    item, result = next((item, result) for item, result in mine if axis in item["axes"])
    grid = np.array(result[name])
    middle = len(grid) // 2
    return grid[:, middle] if item["axes"][0] == axis else grid[middle]


def basin_width(x: np.ndarray, profile: np.ndarray) -> float:
    """Distance from the middle up to which a profile (n,) rises all the way outwards, on the worse side; 0 if the middle is no minimum."""
    middle = len(x) // 2

    def reach(values: np.ndarray) -> int:
        rising = np.diff(values) > 0
        return int(np.argmin(rising)) if not rising.all() else len(rising)

    n = min(reach(profile[middle:]), reach(profile[middle::-1]))
    return float(abs(x[middle + n] - x[middle]))


# -- optimisers and monte-carlo -------------------------------------------------------------------------------

TABLE_2 = {
    "gradient_descent": "none converges",
    "momentum": "66.8 %, 15.56 ms",
    "damped_momentum": "75.6 %, 6.96 ms",
    "adam": "85.7 %, 7.00 ms",
}
CHUNK, SEARCH_CHUNK = 50, 5
EVERY = 5  # iterations between the losses that are kept


def _pose_items(study: Study, n: int, pairs: Sequence[tuple[str, str]]) -> list[Item]:
    whose = study.subjects(1)[0]
    items = []
    for kind, method in pairs:
        chunk = SEARCH_CHUNK if method == "search" else CHUNK
        items += [
            {"object": kind, "subject": whose, "method": method, "first": first, "count": min(chunk, n - first)}
            for first in range(0, n, chunk)
        ]
    return items


def optimiser_items(study: Study, n: int) -> list[Item]:
    """Every method on the skull, as the paper's object, from two sides, and on the vessels."""
    objects = ("skull", "skull_lateral", "vessels")
    return _pose_items(
        study, n, [(kind, method) for kind in objects for method in scene_b.METHODS if method != "search"]
    )


def monte_carlo_items(study: Study, n: int) -> list[Item]:
    """Adam as the paper, on skull and vessels; our default on the vessels."""
    pairs = [
        ("skull", "adam"),
        ("skull_lateral", "adam"),
        ("vessels", "adam"),
        ("vessels", "adam_blurred"),
        ("vessels", "second_order"),
        ("vessels", "search"),
    ]
    return _pose_items(study, n, pairs)


def pose_work(study: Study, item: Item) -> dict[str, Any]:
    """A chunk of random starts, optimised: errors and losses before and after, traces, seconds."""
    of = scene_b.scene(study, item)
    indices = range(item["first"], item["first"] + item["count"])
    starts = random_starts(of.truth, of.centre_mm, scene_b.ROTATION_DEG, scene_b.TRANSLATION_MM, indices, study.seed)
    found = scene_b.method_named(item["method"])(of, starts, study.small)
    points = of.points_mm[:: max(1, len(of.points_mm) // 2000)]
    result: dict[str, Any] = {
        "before_mm": rounded(mpe_mm(of.carm, starts, of.truth, of.centre_mm)),
        "mpe_mm": rounded(mpe_mm(of.carm, found.poses, of.truth, of.centre_mm)),
        "mtre_mm": rounded(metrics.mtre_mm(found.poses, of.truth, points)),
        "loss": rounded(scene_b.losses(of, found.poses)),
        "seconds": found.seconds,
    }
    if found.trace is not None:
        reached = found.trace < scene_b.CONVERGED
        result["iterations"] = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, -1).tolist()
        result["trace"] = [rounded(row) for row in found.trace[::EVERY]]
        result["steps"] = len(found.trace)
    return result


def optimiser_summary(study: Study, done: list[Done]) -> Summary:
    """Table 2 beside ours, and the curves of Fig. 7."""
    return _pose_summary(done, {method: figure for method, figure in TABLE_2.items()}, "optimisers")


def monte_carlo_summary(study: Study, done: list[Done]) -> Summary:
    """Successes by loss and by true pose error, and the curves of Fig. 8."""
    return _pose_summary(done, {"adam": "82.7 % (figure), 745 of 1000 in about 65 iterations (text)"}, "monte_carlo")


_Groups = dict[tuple[str, str], list[Done]]  # by object and method
_MEASURES = ("before_mm", "mpe_mm", "mtre_mm", "loss")


def _joined(mine: list[Done]) -> dict[str, np.ndarray]:
    """Measures of all poses of a group's chunks, and the iterations until convergence where the method has them."""
    keys = [key for key in (*_MEASURES, "iterations") if key in mine[0][1]]
    return {key: np.concatenate([r[key] for _, r in mine]) for key in keys}


def _pose_summary(done: list[Done], paper: dict[str, str], name: str) -> Summary:
    groups: _Groups = {}
    for item, result in done:
        groups.setdefault((item["object"], item["method"]), []).append((item, result))
    rows, table, comparison, figures = [], [], [], {}
    for (kind, method), mine in groups.items():
        joined = _joined(mine)
        n = len(joined["loss"])
        converged = int((joined["loss"] < scene_b.CONVERGED).sum())
        near, nearest = (metrics.succeeded_below(joined["mpe_mm"], limit) for limit in (SUCCESS_MM, 0.5))
        low, high = metrics.wilson(converged, n)
        iterations = joined.get("iterations", np.full(n, -1))
        taken = float(np.median(iterations[iterations > 0])) if converged and (iterations > 0).any() else None
        seconds = sum(r["seconds"] for _, r in mine) / n
        label = scene_b.METHODS[method]
        table.append(
            [
                scene_b.OBJECTS[kind],
                label,
                f"{converged} of {n} ({100 * converged / n:.1f} %)",
                f"{100 * low:.0f} to {100 * high:.0f} %",
                f"{near} ({100 * near / n:.1f} %)",
                f"{nearest} ({100 * nearest / n:.1f} %)",
                f"{np.median(joined['mpe_mm']):.3g}",
                f"{joined['mpe_mm'].max():.3g}",
                f"{np.median(joined['mtre_mm']):.3g}",
                "-" if taken is None else f"{taken:.0f}",
                f"{1000 * seconds:.0f}",
            ]
        )
        comparison.append(
            (
                f"{label}: {scene_b.OBJECTS[kind]}",
                paper.get(method, "-"),
                f"{100 * converged / n:.1f} % by loss, {100 * near / n:.1f} % by MPE below 5 mm, {100 * nearest / n:.1f} % below 0.5 mm; "
                f"{1000 * seconds:.0f} ms a pose",
            )
        )
        figures[f"{kind}, {method}"] = {
            "n": n,
            "converged": converged,
            "below_5_mm": near,
            "below_0.5_mm": nearest,
            "median_mpe_mm": float(np.median(joined["mpe_mm"])),
            "largest_mpe_mm": float(joined["mpe_mm"].max()),
            "median_iterations": taken,
            "seconds_a_pose": seconds,
        }
        for i in range(n):
            values = {key: float(joined[key][i]) for key in _MEASURES}
            rows.append({"object": kind, "method": method, "pose": i, **values, "iterations": int(iterations[i])})
    drawings = _pose_drawings(groups, name)
    header = ["object", "method", "loss < 1e-6", "95 % interval", "MPE < 5 mm", "MPE < 0.5 mm", "median MPE mm", "largest", "median mTRE mm", "iterations", "ms a pose"]  # fmt: skip
    used = [
        m
        for m in ("gradient_descent", "momentum", "damped_momentum", "adam")
        if any(method == m for _, method in groups)
    ]
    rates = "; ".join(
        f"{scene_b.METHODS[m]} {scene_b.settings_of(m)['rad']:g} rad and {scene_b.settings_of(m)['mm']:g} mm"
        for m in used
    )
    return Summary(
        comparison,
        rows,
        figures,
        [
            Table(
                "All methods",
                header,
                table,
                "Iterations: median until the loss is below 1e-6, of those that get there.",
            )
        ],
        drawings,
        [f"Rates, which the paper does not give: {rates}."],
    )


def _pose_drawings(groups: _Groups, name: str) -> dict[str, tuple[str, Any]]:
    """Adam's curves from every start, success by true error of all methods, and the optimisers' median curves, by object."""
    from DeepIterRegLib.studies.experiments import plots

    drawings: dict[str, tuple[str, Any]] = {}
    for kind in dict.fromkeys(kind for kind, _ in groups):
        by_method = {method: mine for (of, method), mine in groups.items() if of == kind}
        if "trace" in by_method.get("adam", [({}, {})])[0][1]:
            trace = np.concatenate([np.array(r["trace"]) for _, r in by_method["adam"]], axis=1)
            good = _joined(by_method["adam"])["loss"] < scene_b.CONVERGED
            steps = np.arange(len(trace)) * EVERY
            curves = {
                "converged": (steps, np.maximum(trace[:, good], 1e-12)),
                "not": (steps, np.maximum(trace[:, ~good], 1e-12)),
            }
            drawing = plots.traces(curves, "loss, 1 - ZNCC", log=True)  # type: ignore[arg-type]
            drawing.axes[0].axhline(scene_b.CONVERGED, color="0.5", lw=1)
            drawings[f"{name}_curves_{kind}"] = (f"Adam from every start (B Fig. 8): {scene_b.OBJECTS[kind]}", drawing)
        drawings[f"{name}_success_{kind}"] = (
            f"Success by true error: {scene_b.OBJECTS[kind]}",
            plots.success({scene_b.METHODS[method]: _joined(mine)["mpe_mm"] for method, mine in by_method.items()}),
        )
        first = {
            m: mine[0][1]["trace"] for m, mine in by_method.items() if "trace" in mine[0][1] and m != "adam_blurred"
        }
        if len(first) > 1:
            curves = {
                scene_b.METHODS[method]: (
                    np.arange(len(trace)) * EVERY,
                    np.maximum(np.median(np.array(trace), axis=1)[:, None], 1e-12),
                )
                for method, trace in first.items()
            }
            drawing = plots.traces(curves, "median loss of the first starts", log=True)  # type: ignore[arg-type]
            drawings[f"{name}_optimisers_{kind}"] = (f"Optimisers (B Fig. 7): {scene_b.OBJECTS[kind]}", drawing)
    return drawings


_PROTOCOL = (
    "The fixed image is the projection of the object at the true pose (the radiological one); starts differ by up to 45 deg and "
    "60 mm on every axis. Images are splatted: line integrals, bilinear, float32, compared in double precision, so that 1 - ZNCC below "
    "1e-6 is far above rounding. It is invariant to gain and offset, so no other normalisation takes part. The paper registers a plastic "
    "skull; here the bone of the head phantom (above 300 HU, AP and lateral: the paper does not name the view) and its "
    "vessels, which this software registers. Adam blurred, second order and search are ours, and not in the paper."
)

DRR_TIME = Experiment(
    "How long a DRR takes",
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
LANDSCAPE = Experiment(
    "Loss landscape about the true pose",
    "Paper B, Figure 5",
    "The object is turned and shifted along every pair of axes, up to 45 deg and 60 mm, and compared with its image at the true pose, by NCC "
    "(means kept), ZNCC, mutual information, L2 and gradient correlation. Turns are about, shifts along the C-arm's axes: R to "
    "the right, A along the beam (AP), S to the head.",
    "poses along each axis",
    31,
    5,
    landscape_items,
    landscape_work,
    landscape_summary,
)
OPTIMISERS = Experiment(
    "Optimisers from random poses",
    "Paper B, Table 2 and Figure 7",
    _PROTOCOL,
    "random poses",
    300,
    4,
    optimiser_items,
    pose_work,
    optimiser_summary,
)
MONTE_CARLO = Experiment(
    "A thousand random poses",
    "Paper B, Figure 8",
    _PROTOCOL,
    "random poses",
    1000,
    2,
    monte_carlo_items,
    pose_work,
    monte_carlo_summary,
)
