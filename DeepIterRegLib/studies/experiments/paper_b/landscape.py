"""Loss landscape about the true pose (B Figure 5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.papers import similarity
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table
from DeepIterRegLib.studies.experiments.objects import Item, Study
from DeepIterRegLib.studies.experiments.paper_b.scene import OBJECTS, ROTATION_DEG, TRANSLATION_MM, scene
from DeepIterRegLib.studies.experiments.papers import PAPER_B

# About and along the C-arm's axes; A is the beam (AP).
AXES = ("turn R", "turn A", "turn S", "shift R", "shift A", "shift S")
REACH = np.array([ROTATION_DEG] * 3 + [TRANSLATION_MM] * 3)  # to each side of the truth, deg and mm
LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "NCC": lambda m, f: (
        1 - (m * f).sum((-2, -1)) / ((m**2).sum((-2, -1)) * (f**2).sum((-2, -1))).sqrt().clamp_min(1e-12)
    ),
    "ZNCC": lambda m, f: 1 - similarity.zncc(m, f),
    "MI": lambda m, f: -similarity.mutual_information(m, f),
    "L2": lambda m, f: -similarity.negative_l2(m, f),
    "gradient": lambda m, f: 1 - similarity.gradient_correlation(m, f),
}
_BATCH = 64  # poses projected at once


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
    of = scene(study, item)
    grid = np.linspace(-1, 1, item["steps"])
    offsets = np.zeros((len(grid) ** 2, 6))
    a, b = item["axes"]
    offsets[:, a], offsets[:, b] = (part.ravel() for part in np.meshgrid(grid, grid, indexing="ij"))
    offsets *= REACH
    poses = pose.offset_about(of.truth, of.centre_mm, pose.euler_deg_to_rotation(offsets[:, :3]), offsets[:, 3:])
    project, fixed = of.projector(), of.image()
    values: dict[str, list[float]] = {name: [] for name in LOSSES}
    with torch.no_grad():
        for some in torch.from_numpy(np.asarray(poses)).split(_BATCH):
            image = project(some).double()
            for name, loss in LOSSES.items():
                values[name].extend(loss(image, fixed).tolist())
    return {name: np.round(np.reshape(v, (len(grid), len(grid))), 6).tolist() for name, v in values.items()}


def landscape_summary(study: Study, done: list[Done]) -> Summary:
    """Contours of ZNCC, profiles of all losses, and how far along each axis a loss falls all the way to the truth."""
    objects = {
        kind: [(i, r) for i, r in done if i["object"] == kind] for kind in dict.fromkeys(i["object"] for i, _ in done)
    }
    basins = {kind: _basins(mine) for kind, mine in objects.items()}
    drawings = {}
    for kind, mine in objects.items():
        drawings[f"landscape_{kind}"] = (f"Loss 1 - ZNCC: {OBJECTS[kind]} (B Fig. 5)", _contours(mine))
        drawings[f"profiles_{kind}"] = (f"Losses along single axes: {OBJECTS[kind]}", _profiles(mine))
    rows = [
        {"object": kind, "axis": axis, "loss": name, "basin": basins[kind][name][n], "unit": "deg" if n < 3 else "mm"}
        for kind in objects
        for n, axis in enumerate(AXES)
        for name in LOSSES
    ]
    zncc = {kind: [f"{r['axis']} {r['basin']:.0f} {r['unit']}" for r in rows if r["loss"] == "ZNCC" and r["object"] == kind] for kind in objects}  # fmt: skip
    table = [
        [OBJECTS[kind], name, *(f"{basin:.0f}" for basin in basins[kind][name])] for kind in objects for name in LOSSES
    ]
    note = "How far from the truth, on the worse side, the loss falls without a break on the way to it; half a range of 45 deg or 60 mm is all."
    question = "1 - ZNCC falls all the way to the truth"
    return Summary(
        [
            (f"{question}: {OBJECTS[kind]}", "locally convex (Fig. 5, no figures)", ", ".join(v))
            for kind, v in zncc.items()
        ],
        rows,
        {f"{r['object']}, {r['loss']}, {r['axis']}": r["basin"] for r in rows},
        [Table("Basin along each axis, deg and mm", ["object", "loss", *AXES], table, note)],
        drawings,
    )


def _basins(mine: list[Done]) -> dict[str, list[float]]:
    """Loss to the basin's width along each of `AXES`."""
    found = {}
    for name in LOSSES:
        profiles = [_profile(mine, n, name) for n in range(len(AXES))]
        found[name] = [
            basin_width(np.linspace(-reach, reach, len(profile)), profile)
            for reach, profile in zip(REACH, profiles, strict=True)
        ]
    return found


def _contours(mine: list[Done]) -> Any:
    from DeepIterRegLib.studies.experiments import plots

    grids = {(AXES[item["axes"][0]], AXES[item["axes"][1]]): np.array(result["ZNCC"]) for item, result in mine}
    return plots.landscapes(grids, dict(zip(AXES, REACH.tolist(), strict=True)), "loss, 1 - ZNCC")


def _profiles(mine: list[Done]) -> Any:
    """All losses along each axis through the truth, each from its lowest to its highest value."""
    from DeepIterRegLib.studies.experiments import plots

    drawing, axes = plots.figure(9.6, 5.8, 2, 3)
    for n, (axis, one) in enumerate(zip(AXES, axes.ravel(), strict=True)):
        for name, colour in zip(LOSSES, plots.COLOURS, strict=False):
            profile = _profile(mine, n, name)
            x = np.linspace(-REACH[n], REACH[n], len(profile))
            low, high = profile.min(), profile.max()
            one.plot(x, (profile - low) / max(high - low, 1e-12), color=colour, lw=1.2, label=name)
        one.set_xlabel(plots.with_unit(axis), fontsize=9)
    for one in axes[:, 0]:
        one.set_ylabel("loss, scaled to 0..1", fontsize=9)
    plots.legend(drawing, columns=len(LOSSES))
    return drawing


def _profile(mine: list[Done], axis: int, name: str) -> np.ndarray:
    """A loss (steps,) along one axis, through the truth, from any grid that has the axis."""
    item, result = next((item, result) for item, result in mine if axis in item["axes"])
    grid = np.array(result[name])
    middle = len(grid) // 2
    return grid[:, middle] if item["axes"][0] == axis else grid[middle]


def basin_width(x: np.ndarray, profile: np.ndarray) -> float:
    """Distance from the middle up to which a profile (n,) rises all the way outwards, on the worse side; 0 if the middle is no minimum.

    `x` (n,) is where the profile's values are, in any unit.
    """
    middle = len(x) // 2

    def reach(values: np.ndarray) -> int:
        rising = np.diff(values) > 0
        return int(np.argmin(rising)) if not rising.all() else len(rising)

    n = min(reach(profile[middle:]), reach(profile[middle::-1]))
    return float(abs(x[middle + n] - x[middle]))


LANDSCAPE = Experiment(
    "Loss landscape about the true pose",
    PAPER_B,
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
