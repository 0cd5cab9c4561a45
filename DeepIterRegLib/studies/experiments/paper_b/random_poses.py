"""Registration from random poses: four optimisers, and a thousand starts (B Table 2, Figures 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table, rounded
from DeepIterRegLib.studies.experiments.objects import Item, Study, random_starts
from DeepIterRegLib.studies.experiments.paper_b.methods import CONVERGED, METHODS, losses, method_named, settings_of
from DeepIterRegLib.studies.experiments.paper_b.scene import OBJECTS, ROTATION_DEG, TRANSLATION_MM, scene
from DeepIterRegLib.studies.experiments.papers import PAPER_B

TABLE_2 = {
    "gradient_descent": "none converges",
    "momentum": "66.8 %, 15.56 ms",
    "damped_momentum": "75.6 %, 6.96 ms",
    "adam": "85.7 %, 7.00 ms",
}
MONTE_CARLO_SAID = {"adam": "82.7 % (figure), 745 of 1000 in about 65 iterations (text)"}
CHUNK, SEARCH_CHUNK = 50, 5  # starts of an item: a search of the box takes seconds for each
EVERY = 5  # iterations between the losses that are recorded
NEAREST_MM = 0.5  # an MPE that no display shows
_MTRE_POINTS = 2000  # of the object, at least
_LOWEST = 1e-12  # of losses drawn on a logarithmic axis: float64 tells no more from 0
_MEASURES = ("before_mm", "mpe_mm", "mtre_mm", "loss")


def optimiser_items(study: Study, n: int) -> list[Item]:
    """Every method on the skull, as the paper's object, from two sides, and on the vessels."""
    objects = ("skull", "skull_lateral", "vessels")
    return _pose_items(study, n, [(kind, method) for kind in objects for method in METHODS if method != "search"])


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


def pose_work(study: Study, item: Item) -> dict[str, Any]:
    """A chunk of random starts, optimised: errors and losses before and after, traces, seconds."""
    of = scene(study, item)
    indices = range(item["first"], item["first"] + item["count"])
    starts = random_starts(of.truth, of.centre_mm, ROTATION_DEG, TRANSLATION_MM, indices, study.seed)
    found = method_named(item["method"])(of, starts, study.small)
    points = of.points_mm[:: max(1, len(of.points_mm) // _MTRE_POINTS)]
    result: dict[str, Any] = {
        "before_mm": rounded(mpe_mm(of.carm, starts, of.truth, of.centre_mm)),
        "mpe_mm": rounded(mpe_mm(of.carm, found.poses, of.truth, of.centre_mm)),
        "mtre_mm": rounded(metrics.mtre_mm(found.poses, of.truth, points)),
        "loss": rounded(losses(of, found.poses)),
        "seconds": found.seconds,
    }
    if found.trace is not None:
        reached = found.trace < CONVERGED
        result["iterations"] = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, -1).tolist()
        result["trace"] = [rounded(row) for row in found.trace[::EVERY]]
        result["steps"] = len(found.trace)
    return result


def optimiser_summary(study: Study, done: list[Done]) -> Summary:
    """Table 2 beside ours, and the curves of Fig. 7."""
    return _summary(done, TABLE_2, "optimisers")


def monte_carlo_summary(study: Study, done: list[Done]) -> Summary:
    """Successes by loss and by true pose error, and the curves of Fig. 8."""
    return _summary(done, MONTE_CARLO_SAID, "monte_carlo")


@dataclass(frozen=True)
class _Poses:
    """All starts of one object by one method, from the results of its chunks.

    Attributes
    ----------
    measures
        Each of `_MEASURES`: (N,).
    iterations : (N,) int
        Until convergence; -1 where there was none, or the method has no iterations to count.
    seconds
        Of one start.
    traces
        Of each chunk that has one: losses (recorded iterations, starts).
    """

    measures: dict[str, np.ndarray]
    iterations: np.ndarray
    seconds: float
    traces: list[np.ndarray]

    @property
    def n(self) -> int:
        return len(self.measures["loss"])

    @property
    def converged(self) -> np.ndarray:
        """(N,) bool: by loss."""
        return self.measures["loss"] < CONVERGED

    def below(self, limit_mm: float) -> int:
        """How many ended with an MPE below the limit."""
        return metrics.succeeded_below(self.measures["mpe_mm"], limit_mm)

    @property
    def median_iterations(self) -> float | None:
        """Of those that converged."""
        counted = self.iterations[self.iterations > 0]
        return float(np.median(counted)) if self.converged.any() and len(counted) else None


_Groups = Mapping[tuple[str, str], _Poses]  # by object and method


def _groups(done: list[Done]) -> _Groups:
    chunks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item, result in done:
        chunks.setdefault((item["object"], item["method"]), []).append(result)
    return {key: _joined(results) for key, results in chunks.items()}


def _joined(results: list[dict[str, Any]]) -> _Poses:
    measures = {key: np.concatenate([r[key] for r in results]) for key in _MEASURES}
    n = len(measures["loss"])
    counted = "iterations" in results[0]
    iterations = np.concatenate([r["iterations"] for r in results]) if counted else np.full(n, -1)
    traces = [np.array(r["trace"]) for r in results if "trace" in r]
    return _Poses(measures, iterations, sum(r["seconds"] for r in results) / n, traces)


def _summary(done: list[Done], paper: Mapping[str, str], name: str) -> Summary:
    groups = _groups(done)
    header = ["object", "method", "loss < 1e-6", "95 % interval", "MPE < 5 mm", "MPE < 0.5 mm", "median MPE mm", "largest", "median mTRE mm", "iterations", "ms a pose"]  # fmt: skip
    note = "Iterations: median until the loss is below 1e-6, of those that get there."
    first_order = [method for method in TABLE_2 if any(method == used for _, used in groups)]
    rates = "; ".join(
        f"{METHODS[method]} {settings_of(method)['rad']:g} rad and {settings_of(method)['mm']:g} mm"
        for method in first_order
    )
    return Summary(
        [
            (f"{METHODS[method]}: {OBJECTS[kind]}", paper.get(method, "-"), _sentence(found))
            for (kind, method), found in groups.items()
        ],
        [row for (kind, method), found in groups.items() for row in _rows(kind, method, found)],
        {f"{kind}, {method}": _figures(found) for (kind, method), found in groups.items()},
        [Table("All methods", header, [_line(*key, found) for key, found in groups.items()], note)],
        _drawings(groups, name),
        [f"Rates, which the paper does not give: {rates}."],
    )


def _line(kind: str, method: str, found: _Poses) -> list[str]:
    """Of the table, for people."""
    n, converged = found.n, int(found.converged.sum())
    low, high = metrics.wilson(converged, n)
    near, nearest = found.below(SUCCESS_MM), found.below(NEAREST_MM)
    taken = found.median_iterations
    return [
        OBJECTS[kind],
        METHODS[method],
        f"{converged} of {n} ({100 * converged / n:.1f} %)",
        f"{100 * low:.0f} to {100 * high:.0f} %",
        f"{near} ({100 * near / n:.1f} %)",
        f"{nearest} ({100 * nearest / n:.1f} %)",
        f"{np.median(found.measures['mpe_mm']):.3g}",
        f"{found.measures['mpe_mm'].max():.3g}",
        f"{np.median(found.measures['mtre_mm']):.3g}",
        "-" if taken is None else f"{taken:.0f}",
        f"{1000 * found.seconds:.0f}",
    ]


def _sentence(found: _Poses) -> str:
    """Beside the paper's figures."""
    by_loss, near, nearest = (
        100 * count / found.n for count in (found.converged.sum(), found.below(SUCCESS_MM), found.below(NEAREST_MM))
    )
    return (
        f"{by_loss:.1f} % by loss, {near:.1f} % by MPE below 5 mm, {nearest:.1f} % below 0.5 mm; "
        f"{1000 * found.seconds:.0f} ms a pose"
    )


def _figures(found: _Poses) -> dict[str, Any]:
    """Of the JSON."""
    return {
        "n": found.n,
        "converged": int(found.converged.sum()),
        "below_5_mm": found.below(SUCCESS_MM),
        "below_0.5_mm": found.below(NEAREST_MM),
        "median_mpe_mm": float(np.median(found.measures["mpe_mm"])),
        "largest_mpe_mm": float(found.measures["mpe_mm"].max()),
        "median_iterations": found.median_iterations,
        "seconds_a_pose": found.seconds,
    }


def _rows(kind: str, method: str, found: _Poses) -> list[dict[str, Any]]:
    """Of the CSV: one for each start."""
    return [
        {
            "object": kind,
            "method": method,
            "pose": i,
            **{key: float(values[i]) for key, values in found.measures.items()},
            "iterations": int(found.iterations[i]),
        }
        for i in range(found.n)
    ]


def _drawings(groups: _Groups, name: str) -> dict[str, tuple[str, Any]]:
    """Adam's curves from every start, success by true error of all methods, and the optimisers' median curves, by object."""
    from DeepIterRegLib.studies.experiments import plots

    drawings: dict[str, tuple[str, Any]] = {}
    for kind in dict.fromkeys(kind for kind, _ in groups):
        by_method = {method: found for (of, method), found in groups.items() if of == kind}
        adam = by_method.get("adam")
        if adam is not None and adam.traces:
            title = f"Adam from every start (B Fig. 8): {OBJECTS[kind]}"
            drawings[f"{name}_curves_{kind}"] = (title, _every_curve(adam))
        drawings[f"{name}_success_{kind}"] = (
            f"Success by true error: {OBJECTS[kind]}",
            plots.success({METHODS[method]: found.measures["mpe_mm"] for method, found in by_method.items()}),
        )
        # Blurred images have another loss until the last stage, so that its curve cannot stand beside the others.
        first = {m: found.traces[0] for m, found in by_method.items() if found.traces and m != "adam_blurred"}
        if len(first) > 1:
            title = f"Optimisers (B Fig. 7): {OBJECTS[kind]}"
            drawings[f"{name}_optimisers_{kind}"] = (title, _median_curves(first))
    return drawings


def _every_curve(found: _Poses) -> Any:
    from DeepIterRegLib.studies.experiments import plots

    trace = np.concatenate(found.traces, axis=1)
    good = found.converged
    steps = (np.arange(len(trace)) * EVERY).tolist()
    curves = {
        "converged": (steps, np.maximum(trace[:, good], _LOWEST)),
        "not": (steps, np.maximum(trace[:, ~good], _LOWEST)),
    }
    drawing = plots.traces(curves, "loss, 1 - ZNCC", log=True)
    drawing.axes[0].axhline(CONVERGED, color="0.5", lw=1)
    return drawing


def _median_curves(first: Mapping[str, np.ndarray]) -> Any:
    """Of the first chunk of each method: losses (recorded iterations, starts)."""
    from DeepIterRegLib.studies.experiments import plots

    curves = {
        METHODS[method]: (
            (np.arange(len(trace)) * EVERY).tolist(),
            np.maximum(np.median(trace, axis=1)[:, None], _LOWEST),
        )
        for method, trace in first.items()
    }
    return plots.traces(curves, "median loss of the first starts", log=True)


_PROTOCOL = (
    "The fixed image is the projection of the object at the true pose (the radiological one); starts differ by up to 45 deg and "
    "60 mm on every axis. Images are splatted: line integrals, bilinear, float32, compared in double precision, so that 1 - ZNCC below "
    "1e-6 is far above rounding. It is invariant to gain and offset, so no other normalisation takes part. The paper registers a plastic "
    "skull; here the bone of the head phantom (above 300 HU, AP and lateral: the paper does not name the view) and its "
    "vessels, which this software registers. Adam blurred, second order and search are ours, and not in the paper."
)

OPTIMISERS = Experiment(
    "Optimisers from random poses",
    PAPER_B,
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
    PAPER_B,
    "Paper B, Figure 8",
    _PROTOCOL,
    "random poses",
    1000,
    2,
    monte_carlo_items,
    pose_work,
    monte_carlo_summary,
)
