"""The announced error against the measured one: calibrates it on development patients, and judges it on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import alone
import benchmarking
import cohort
import confidence_cases
import confidence_figures
import headers
import numpy as np
from benchmarking import Case, Result, table

from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.registration.confidence.expected_error import ErrorGroup

# Development only, and nobody whom a confidence was trained on: a row's patients have these numbers and some hundreds more.
SEEDS, SMALL_SEEDS = range(1600, 1680), range(50, 51)
JUDGED_SEEDS = range(7348, 7364)
GROUPS = (
    *("skull, one view", "skull, two views", "residue, one view", "residue, two views"),
    *("alone, one view", "alone, two views", "corrected"),
)
FLOOR_MM = 0.05  # errors below this are as good as none
FEWEST = 12  # right registrations of a group that its intervals can be told from
NOT_FOR = "Phantoms only: how it does on patients is not known. Research use only."


def run_case(case: Case) -> Result:
    """One patient: by one view and by two, with skull, without and by the residue, and by two views with headers that are off."""
    seed, small = case["seed"], case.get("small", False)
    row = list(cohort.ROWS)[seed % len(cohort.ROWS)]
    made = made_or_none(lambda: cohort.make(row, seed, small, alone.settings_of(row, small)))
    if made is None:
        return {"row": row, **confidence_cases.packed([])}
    kinds = list(headers.WRONG)[1:]
    kind = kinds[(seed // len(cohort.ROWS)) % len(kinds)]
    rng = np.random.default_rng([seed, 77])
    vessels = tuple(replace(run, unsubtracted=None) for run in made.runs)
    off = tuple(replace(run, carm=headers.wrong(run.carm, kind, rng)) for run in made.runs)
    tries = [("skull", made.runs[:1]), ("skull", made.runs), ("alone", vessels[:1]), ("alone", vessels), (kind, off)]
    found = [registered(made, name, runs) for name, runs in tries]
    subtracted = made_or_none(lambda: alone.make(row, seed, small))
    if subtracted is not None:
        found += [registered(subtracted, "residue", subtracted.runs[:views]) for views in (1, 2)]
    return {"row": row, **confidence_cases.packed([one for one in found if "error" not in one])}


def made_or_none(make: Callable[[], cohort.Made]) -> cohort.Made | None:
    """A patient; None where a run shows no vessel."""
    from DeepIterRegLib.common.errors import InputError

    try:
        return make()
    except InputError:
        return None


def registered(made: cohort.Made, name: str, runs: Sequence[Any]) -> Result:
    """What one registration came to, and what it said of itself."""
    from DeepIterRegLib.common.errors import RegistrationError
    from DeepIterRegLib.registration.pipeline import register

    of = {"by": name, "views": len(runs)}
    try:
        result = register(made.cta, tuple(runs), cta_mask=made.vessels, dsa_masks=made.masks[: len(runs)])
    except RegistrationError as refused:
        return {**of, "error": str(refused)}
    confidence, centre = result.confidence, made.cta.centre_mm
    assert confidence is not None
    shown = zip(made.runs, made.truths, result.views, strict=False)
    apart = [cohort.overlay_mm(run.carm, at, view.carm, result.cta_to_carm, centre) for run, at, view in shown]
    shift = pose.transform(result.cta_to_carm, centre[None])[0] - pose.transform(made.truths[0], centre[None])[0]
    line = made.centreline_mm
    lines = pose.transform(result.cta_to_carm, line) - pose.transform(made.truths[0], line)
    axis_error = result.views[0].axis_error_mm
    assert axis_error is not None
    return {
        **of,
        "error_mm": max(apart),
        "mpe_mm": max(
            float(mpe_mm(r.carm, result.cta_to_carm, t, centre)) for r, t in zip(made.runs, made.truths, strict=False)
        ),
        "mtre_mm": float(np.linalg.norm(lines, axis=1).mean()),
        "depth_mm": float(shift @ np.asarray(made.runs[0].carm.beam_axis)),
        "depth_sd_mm": axis_error[2],
        "features": confidence.features,
        "corrected": bool(result.views[0].changes),  # headers; where the head moved the first view stays
        "seconds": result.seconds["total"],
    }


def said(features: Mapping[str, float]) -> dict[str, Any]:
    """What the model that ships and sees most says of a registration: a record holds what it looks at, and outlives it."""
    model = list(cohort.models_of(features).values())[-1]
    probability, error_mm = model.predict(features)
    return {"by_features_mm": error_mm, "probability": probability, "state": model.state(probability)}


# -- calibration -----------------------------------------------------------------------------------------


def by_group(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Registrations that were not refused, by the name of their group."""
    from DeepIterRegLib.registration.confidence.expected_error import group_of

    groups: dict[str, list[dict[str, Any]]] = {name: [] for name in GROUPS}
    for found in (found for record in records for found in confidence_cases.unpacked(record)):
        name = group_of(found["views"], found["features"], corrected=found["corrected"])
        groups[name].append({**found, **said(found["features"])})
    return groups


def right_of(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["error_mm"] < SUCCESS_MM and one["state"] != "rejected"]


def calibrated(found: Sequence[dict[str, Any]]) -> ErrorGroup:
    """The group's numbers from its right registrations; the share of the features' word is found by least squares."""
    error, said, depth, deviation = (
        np.array([one[key] for one in found]) for key in ("error_mm", "by_features_mm", "depth_mm", "depth_sd_mm")
    )
    intercept, slope, left = line(np.log(said), np.log(np.maximum(error, FLOOR_MM)))
    depth_intercept, depth_slope, _ = line(np.log(deviation), np.log(np.abs(depth) + FLOOR_MM))
    beyond = np.abs(depth) / np.exp(depth_intercept + depth_slope * np.log(deviation))

    def between(share: float) -> tuple[float, float]:
        low, high = np.exp(np.quantile(left, [(1 - share) / 2, (1 + share) / 2], method="weibull"))
        return float(f"{low:.4g}"), float(f"{high:.4g}")

    within_68, within_95 = between(0.68), between(0.95)
    depth_68, depth_95 = (float(f"{q:.4g}") for q in np.quantile(beyond, [0.68, 0.95], method="weibull"))
    numbers = [float(f"{value:.4g}") for value in (intercept, slope, depth_intercept, depth_slope)]
    return ErrorGroup(numbers[0], numbers[1], within_68, within_95, numbers[2], numbers[3], depth_68, depth_95)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Intercept by the median, slope between 0 and 1, and what is left (n,)."""
    slope = float(np.clip(np.cov(x, y)[0, 1] / max(float(np.var(x, ddof=1)), 1e-9), 0, 1))
    intercept = float(np.median(y - slope * x))
    return intercept, slope, y - slope * x - intercept


def judged(groups: dict[str, list[dict[str, Any]]], calibration: Mapping[str, ErrorGroup]) -> list[list[str]]:
    """Of each group: how many are right, measured over expected, and how many lie in the intervals."""
    rows = []
    for name, found in groups.items():
        good = right_of(found)
        if not good:
            continue
        group = calibration[name]
        ratio = np.array([one["error_mm"] / group.error_mm(one["by_features_mm"]) for one in good])
        beyond = np.array([abs(one["depth_mm"]) / group.depth_mm(one["depth_sd_mm"]) for one in good])
        inside = [float(np.mean((ratio >= low) & (ratio <= high))) for low, high in (group.within_68, group.within_95)]
        along = [float(np.mean(beyond <= bound)) for bound in (group.depth_68, group.depth_95)]
        wrong = [one for one in found if one["error_mm"] >= SUCCESS_MM]
        accepted = [one for one in found if one["state"] == "accepted"]
        rows.append(
            [
                name,
                f"{len(found) - len(wrong)} of {len(found)}",
                f"{sum(one['error_mm'] < SUCCESS_MM for one in accepted)} / {sum(one['error_mm'] >= SUCCESS_MM for one in accepted)}",
                f"{np.median([one['error_mm'] for one in good]):.2f}",
                *confidence_figures.announced_cells(
                    float(np.median(ratio)), inside, [] if name == "corrected" else along
                ),
            ]
        )
    return rows


HEADER = ["group", "right", "accepted right / wrong", "median error, mm", *confidence_figures.ANNOUNCED]


def main(argv: Sequence[str] | None = None) -> None:
    from DeepIterRegLib.registration.confidence.expected_error import SHIPPED_ERRORS, load_groups, save_groups

    options = benchmarking.parse("expected_error", __doc__ or "", argv)
    extra = {"small": True} if options.small else {}
    seeds = [*SMALL_SEEDS] if options.small else [*SEEDS, *JUDGED_SEEDS]
    cases: list[Case] = [{"seed": seed, **extra} for seed in seeds]
    settings = {**alone.settings_of_all(options.small), "version": 4}
    records = benchmarking.run_cases("expected_error", cases, run_case, settings, options)
    parts = [__doc__ or ""]
    made = by_group([record for record in records if record["case"]["seed"] in SEEDS])
    development = [record["case"]["seed"] for record in records if record["case"]["seed"] in SEEDS]
    good = {name: right_of(found) for name, found in made.items()}
    few = [name for name, right in good.items() if len(right) < FEWEST]
    new = [name for name in good if name not in few]
    if len(development) == len(SEEDS) and new:
        counts = {name: len(good[name]) for name in new}
        card = {"by": options.command, "commit": benchmarking.commit(), "data": counts, "not_for": NOT_FOR}
        save_groups({**load_groups(), **{name: calibrated(good[name]) for name in new}}, SHIPPED_ERRORS, card)
        load_groups.cache_clear()
        title = f"the {len(development)} patients that it was calibrated on"
    else:
        title = f"{len(development)} development patients, by the calibration that ships, which is not of them"
    if development:
        parts += [
            f"## On {title}",
            table(HEADER, judged({name: made[name] for name in new}, load_groups())),
            f"Too few right ones to calibrate: {', '.join(few) or 'none'}. Judged in [exact](exact.md) and [alone](alone.md).",
        ]
    judged_records = [record for record in records if record["case"]["seed"] in JUDGED_SEEDS]
    others = by_group(judged_records)
    if any(others.values()):
        parts += [
            f"## On others (seeds {JUDGED_SEEDS[0]} to {max(record['case']['seed'] for record in judged_records)}; many more in "
            "[exact](exact.md) and [alone](alone.md))",
            table(HEADER, judged(others, load_groups())),
        ]
    benchmarking.write_result("expected_error", "The announced error", "\n\n".join(parts), options, records)


if __name__ == "__main__":
    main()
