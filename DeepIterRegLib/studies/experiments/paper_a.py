"""Paper A's experiments: which anatomy registers, capture range, the pipeline's stages, loss traces, and how heads lie."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.network.proposals import NetworkInit, network_poses
from DeepIterRegLib.registration.papers.stages import optimise_poses
from DeepIterRegLib.registration.pipeline import find_pose
from DeepIterRegLib.registration.scene import scene_znccs
from DeepIterRegLib.registration.settings import PAPER_A_STAGE_1, PAPER_A_STAGE_2, IntensityStage, RegistrationSettings
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings
from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table, rounded
from DeepIterRegLib.studies.experiments.objects import (
    Item,
    Study,
    Subject,
    coarsened,
    phantom_settings,
    random_starts,
    subject,
    subject_name,
)

ROTATION_DEG, TRANSLATION_PX = 35.0, 45.0  # A 4.3.3
STARTS, SMALL_STARTS = 10, 4  # of each patient; the paper does not say how many it took
ROWS = 128  # of the paper's stages here
SHORT = 8  # iterations of a small trial
TEST_SET = 20  # A 4.1
EVERY = 10  # iterations between the scores that are kept
HALF_CELL_MM = 15.0  # vessels "removed at random" go by cubes of this side
REFUSED = 1e9  # the error of a refused registration: JSON has no infinity


def paper_stages(small: bool) -> tuple[IntensityStage, IntensityStage]:
    """A 4.3.4, splatted instead of ray-cast."""
    stages = (
        IntensityStage("mask", "ncc", "splat", ROWS, PAPER_A_STAGE_1),
        IntensityStage("minip", "mutual_information", "splat", ROWS, PAPER_A_STAGE_2),
    )
    if not small:
        return stages
    first, second = (replace(s, rows=64, optimisation=replace(s.optimisation, iterations=SHORT)) for s in stages)
    return first, second


def descend(
    study: Study,
    of: Subject,
    stage: IntensityStage,
    starts: np.ndarray,
    mask: Volume | None = None,
    drawn: str = "vessels",
) -> Any:
    """One of the paper's stages from poses (B, 4, 4), with the CTA's `mask` against the run's mask of that name."""
    # Voxels as large as a pixel's share of the head tell all that the grid shows (ZNCC with the image of finer ones 0.998 to 0.999).
    pixel_mm = of.carm.rows / stage.rows * of.carm.pixel_spacing_mm[0] / of.carm.magnification
    thinned = coarsened(_floats(of.vessels if mask is None else mask), pixel_mm)
    masks = replace(of.masks, vessels=getattr(of.masks, drawn))
    return optimise_poses(stage, starts, thinned, of.cta.centre_mm, [masks], [of.angiogram])


def _floats(mask: Volume) -> Volume:
    return mask.with_voxels((mask.voxels > 0).astype(np.float32))


def starts_of(study: Study, of: Subject, item: Item, count: int) -> np.ndarray:
    """The same starts (B, 4, 4) about the truth whatever is compared; near and far ones alike."""
    shift_mm = TRANSLATION_PX * of.px_mm / of.carm.magnification
    which = _number(study, item)
    return random_starts(
        of.truth, of.cta.centre_mm, ROTATION_DEG, shift_mm, range(count), study.seed * 1000 + which, shrink=True
    )


def _number(study: Study, item: Item) -> int:
    names = [name for name, _, _ in study.cases]
    return (
        names.index(item["subject"]["case"]) if "case" in item["subject"] else item["subject"]["phantom"] - study.seed
    )


def _count(study: Study) -> int:
    return SMALL_STARTS if study.small else STARTS


def _both(of: Subject, poses: np.ndarray) -> dict[str, list[float]]:
    mm = np.atleast_1d(of.mpe_mm(poses))
    return {"mm": rounded(mm), "px": rounded(mm / of.px_mm)}


# -- anatomy ------------------------------------------------------------------------------------------------

ANATOMIES = {
    "full": "all vessels",
    "veins": "veins",
    "arteries": "arteries",
    "half": "half of the vessels, removed at random",
}


def anatomy_items(study: Study, n: int) -> list[Item]:
    """Each anatomy of each patient."""
    return [{"subject": who, "anatomy": name} for who in study.subjects(n) for name in ANATOMIES]


def anatomy_work(study: Study, item: Item) -> dict[str, Any]:
    """Stage 1 with a part of the CTA's vessels against the run's like part, from the same starts."""
    of = subject(study, item["subject"])
    name = item["anatomy"]
    vessels, veins = of.vessels.voxels > 0, of.veins.voxels > 0
    voxels = {"full": vessels, "half": vessels, "veins": veins, "arteries": vessels & ~veins}[name]
    if name == "half":
        voxels = voxels & _kept_cells(of.vessels, study.seed)
    drawn = name if name in ("veins", "arteries") else "vessels"
    if not voxels.any() or not getattr(of.masks, drawn).any():
        raise InputError(f"There are no {drawn} in the {'CTA' if not voxels.any() else 'run'}.")
    starts = starts_of(study, of, item, _count(study))
    begin = time.perf_counter()
    found = descend(study, of, paper_stages(study.small)[0], starts, of.vessels.with_voxels(voxels), drawn)
    seconds = time.perf_counter() - begin
    return {"before": _both(of, starts), "after": _both(of, found.pose.numpy()), "seconds": seconds}


def _kept_cells(vessels: Volume, seed: int) -> np.ndarray:
    """Voxels (k, j, i) in cubes of which every second, at random, is kept."""
    size = np.maximum(1, np.round(HALF_CELL_MM / vessels.spacing_mm[::-1]).astype(int))
    cells = np.array([-(-count // s) for count, s in zip(vessels.voxels.shape, size, strict=True)])
    kept = np.random.default_rng([seed, 7]).random(tuple(cells)) < 0.5
    grids = [np.arange(count) // s for count, s in zip(vessels.voxels.shape, size, strict=True)]
    return np.asarray(kept[np.ix_(*grids)])


def anatomy_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 8: capture ranges and means before and after."""
    groups = {
        label: [(i, r) for i, r in done if i["anatomy"] == name]
        for name, label in ANATOMIES.items()
        if any(i["anatomy"] == name for i, _ in done)
    }
    paper = {
        ANATOMIES["full"]: "22 px (19 mm) before, 14 px (12.9 mm) after; capture range 20 px",
        ANATOMIES["veins"]: "14 px (12.7 mm) after; capture range 20 px",
    }
    return _capture_summary(
        groups, paper, {"all vessels, veins": 20.0}, "anatomy", "anatomy", "Which anatomy registers (A Fig. 8)"
    )


# -- capture range ------------------------------------------------------------------------------------------------

WAYS = {
    "optimisation": "optimisation only, the paper's (NCC, MI; Adam)",
    "second_order": "second-order refinement only (ours)",
    "network": "network + second order",
    "search": "search + second order (ours, vessels alone)",
    "auto": "auto: skull, search, network (our default)",
}


def capture_items(study: Study, n: int) -> list[Item]:
    """Each way of each patient."""
    return [{"subject": who, "way": way} for who in study.subjects(n) for way in WAYS]


def capture_work(study: Study, item: Item) -> dict[str, Any]:
    """Every start of one patient, registered one way."""
    of = subject(study, item["subject"])
    starts = starts_of(study, of, item, _count(study))
    begin = time.perf_counter()
    if item["way"] == "optimisation":
        found = starts
        for stage in paper_stages(study.small):
            found = descend(study, of, stage, found).pose.numpy()
        after = _both(of, found)
    else:
        init = "radiological" if item["way"] == "second_order" else item["way"]  # the start stands in its place
        refused = {"mm": REFUSED, "px": REFUSED}
        after = {"mm": [], "px": []}
        for start in starts:
            answer = _registered(of, our_settings(study, init), start)
            each = {key: v[0] for key, v in _both(of, answer[None]).items()} if answer is not None else refused
            for key, value in each.items():
                after[key].append(value)
    return {"before": _both(of, starts), "after": after, "seconds": time.perf_counter() - begin}


def our_settings(study: Study, init: Any) -> RegistrationSettings:
    """The default preset from another start; small: a small box and few points."""
    settings = RegistrationSettings.preset("default", init=init)
    if not study.small:
        return settings
    box = SearchSettings(rotation_deg=10, translation_mm=10, levels=(Level(64, 2000, 0.8, 5, 4),))
    network = replace(settings.network, starts=2, rounds=1)
    return replace(settings, search=box, network=network, levels=(Level(128, 5000, 1.0, 6, 1),))


def _registered(of: Subject, settings: RegistrationSettings, start: np.ndarray) -> np.ndarray | None:
    """The pose (4, 4), or None where it is refused."""
    try:
        return find_pose(of.scene, start, settings)
    except RegistrationError:
        return None


def capture_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 12: median after against before, in bins."""
    groups = {
        label: [(i, r) for i, r in done if i["way"] == way]
        for way, label in WAYS.items()
        if any(i["way"] == way for i, _ in done)
    }
    paper = {WAYS["optimisation"]: "20 px", WAYS["network"]: "40 px (with the paper's optimisation)"}
    reached = {"optimisation only": 20.0, "with network": 40.0}
    return _capture_summary(groups, paper, reached, "way", "capture_range", "Capture range (A Fig. 12)")


def _capture_summary(
    groups: dict[str, list[Done]],
    paper: dict[str, str],
    paper_px: dict[str, float],
    key: str,
    name: str,
    title: str,
) -> Summary:
    from DeepIterRegLib.studies.experiments import plots

    ranges, rows, table, bins, figures, errors = {}, [], [], [], {}, {}
    for label, mine in groups.items():
        before, after, before_mm, after_mm = (
            np.concatenate([r[when][unit] for _, r in mine]) for unit in ("px", "mm") for when in ("before", "after")
        )
        found = metrics.capture_range(before, after)
        ranges[label], errors[label] = found, after_mm
        good = metrics.succeeded_below(after_mm)
        low, high = metrics.wilson(good, len(after_mm))
        seconds = sum(r["seconds"] for _, r in mine) / len(after)
        finite = after_mm < REFUSED
        table.append(
            [
                label,
                len(after),
                f"{found.reach:.0f} px",
                f"{before.mean():.1f} px, {before_mm.mean():.1f} mm",
                f"{after[finite].mean():.1f} px, {after_mm[finite].mean():.1f} mm",
                f"{good} ({100 * good / len(after):.0f} %, {100 * low:.0f} to {100 * high:.0f})",
                f"{np.median(after_mm):.2f} mm",
                f"{seconds:.1f}",
            ]
        )
        bins += [
            [label, f"{b.low:.0f} to {b.high:.0f}", f"{b.median_after:.1f}", f"{b.band[0]:.1f} to {b.band[1]:.1f}", f"{100 * b.captured:.0f} %"]
            for b in found.bins
        ]  # fmt: skip
        figures[label] = {
            "n": len(after),
            "reach_px": found.reach,
            "before_px": float(before.mean()),
            "after_px": float(after[finite].mean()) if finite.any() else None,
            "before_mm": float(before_mm.mean()),
            "after_mm": float(after_mm[finite].mean()) if finite.any() else None,
            "below_5_mm": good,
            "median_mm": float(np.median(after_mm)),
            "seconds_a_pose": seconds,
        }
        for item, r in mine:
            for n in range(len(r["before"]["mm"])):
                rows.append(
                    {
                        "patient": subject_name(item["subject"]),
                        key: item[key],
                        "start": n,
                        **{f"{when}_{unit}": r[when][unit][n] for when in ("before", "after") for unit in ("px", "mm")},
                    }
                )
    comparison = [
        (label, paper.get(label, "-"), f"capture range {row[2]}; {row[3]} before, {row[4]} after; {row[5]} below 5 mm")
        for label, row in zip(groups, table, strict=True)
    ]
    header = ["", "starts", "capture range", "mean MPE before", "mean after", "below 5 mm", "median after", "s a start"]
    note = (
        "Capture range: end of the last of 10 bins of equal count whose median after, and that of all before it, is below 5 px. "
        "Means leave out what was refused. Bands: bootstrap of the median, 95 %."
    )
    return Summary(
        comparison,
        rows,
        figures,
        [
            Table("Sums", header, table, note),
            Table("Bins", ["", "MPE before, px", "median after, px", "95 % band", "below 5 px"], bins),
        ],
        {
            name: (title, plots.capture(ranges, metrics.CAPTURED_PX, paper_px)),
            f"{name}_success": ("Success by limit", plots.success(errors)),
        },
    )


# -- pipeline ---------------------------------------------------------------------------------------------------

PIPELINES = {
    "2": "two-stage, no network (NCC)",
    "3": "three-stage, no network (NCC, MI)",
    "2n": "two-stage with network (NCC)",
    "3n": "three-stage with network (NCC, MI)",
    "search": "search + second order (ours, vessels alone)",
    "auto": "auto: skull, search, network (our default)",
}


def pipeline_items(study: Study, n: int) -> list[Item]:
    """The paper's stages once without and once with the network, and our ways, for each patient."""
    return [
        {"subject": who, "way": way}
        for who in study.subjects(n)
        for way in ("paper", "paper_network", "search", "auto")
    ]


def pipeline_work(study: Study, item: Item) -> dict[str, Any]:
    """From the radiological pose; every measure of the pose after each stage."""
    of = subject(study, item["subject"])
    start = np.asarray(pose.radiological(of.cta.centre_mm))
    result: dict[str, Any] = {"before": of.errors(start)}
    begin = time.perf_counter()
    if not item["way"].startswith("paper"):
        found = _registered(of, our_settings(study, item["way"]), start)
        errors = dict.fromkeys(result["before"], REFUSED) if found is None else of.errors(found)
        return {**result, item["way"]: errors, "seconds": time.perf_counter() - begin}
    suffix = ""
    if item["way"] == "paper_network":
        suffix = "n"
        start, result["accepted"] = _asked(of, start)
        result["network"] = of.errors(start)
    poses = start[None]
    for number, stage in zip(("2", "3"), paper_stages(study.small), strict=True):
        poses = descend(study, of, stage, poses).pose.numpy()
        result[number + suffix] = of.errors(poses[0])
    return {**result, "seconds": time.perf_counter() - begin}


def _asked(of: Subject, start: np.ndarray) -> tuple[np.ndarray, bool]:
    """The network's one answer, if it agrees with the run no worse than the start (A eq. 12)."""
    seen = of.scene
    try:
        answer = network_poses(seen, start, NetworkInit(starts=1, rounds=1), 0)[0]
    except InputError:
        return start, False
    before, after = scene_znccs(seen, np.stack([start, answer]), SearchSettings().saturation_mm, 0)
    return (answer, True) if after >= before else (start, False)


PAPER_PIPELINE = {
    "2": "11 of 20, 1.71 mm (1.94 px) on successes; 21.14 mm before, 9.78 mm after",
    "3": "not given for these 20 without network",
    "2n": "14 of 20, 2.13 mm (2.44 px) on successes; 7.62 mm after",
    "3n": "14 of 20, 2.08 mm on successes",
}


def pipeline_summary(study: Study, done: list[Done]) -> Summary:
    """A 4.7.1 and 4.8, Fig. 13: successes, MPE of successes, before and after by patient."""
    from DeepIterRegLib.studies.experiments import plots

    rows, table, comparison, figures = [], [], [], {}
    groups, errors, last_labels = {}, {}, []
    for way, label in PIPELINES.items():
        mine = [(i, r) for i, r in done if way in r]
        if not mine:
            continue
        before = np.array([r["before"]["mpe_mm"] for _, r in mine])
        after = np.array([r[way]["mpe_mm"] for _, r in mine])
        px = np.array([r[way]["mpe_px"] for _, r in mine])
        good, answered = after < SUCCESS_MM, after < REFUSED
        names = [subject_name(i["subject"]) for i, _ in mine]
        rows += [
            {"patient": name, "way": way, "before_mm": r["before"]["mpe_mm"], **r[way]}
            for name, (_, r) in zip(names, mine, strict=True)
        ]
        low, high = metrics.wilson(int(good.sum()), len(good))
        of_good = {key: float(np.mean([r[way][key] for (_, r), g in zip(mine, good, strict=True) if g])) if good.any() else float("nan") for key in mine[0][1][way]}  # fmt: skip
        groups[label], errors[label] = (before, after), after
        last_labels = [name.removeprefix("phantom ") for name in names]
        table.append(
            [
                label,
                f"{good.sum()} of {len(good)} ({100 * low:.0f} to {100 * high:.0f} %)",
                f"{of_good['mpe_mm']:.2f} mm, {of_good['mpe_px']:.2f} px",
                f"{before.mean():.1f} mm",
                f"{after[answered].mean():.2f} mm, {px[answered].mean():.2f} px",
                f"{of_good['mrpd_mm']:.2f}",
                f"{of_good['mtre_mm']:.2f}",
                f"{of_good['double_geodesic_mm']:.1f}",
            ]
        )
        comparison.append(
            (label, PAPER_PIPELINE.get(way, "-"), f"{good.sum()} of {len(good)}, {of_good['mpe_mm']:.2f} mm on successes; {before.mean():.1f} mm before, {after[answered].mean():.1f} mm after")
        )  # fmt: skip
        figures[way] = {
            "n": len(good),
            "below_5_mm": int(good.sum()),
            "mean_mm_of_successes": of_good["mpe_mm"],
            "before_mm": float(before.mean()),
            "after_mm": float(after[answered].mean()),
            "refused": int((~answered).sum()),
            "success_curve": metrics.success_curve(after).tolist(),
        }
    kept = [r["accepted"] for _, r in done if "accepted" in r]
    header = [
        "",
        "MPE < 5 mm (95 %)",
        "MPE of successes",
        "before",
        "after",
        "mRPD mm",
        "mTRE mm",
        "double geodesic mm",
    ]
    note = (
        "mRPD (distance from the rays), mTRE (over vessel centreline points) and the double geodesic (lever half the distance "
        "from source to detector) are means over the successes: one view does not see depth, so mTRE is larger than what the view shows. "
        f"The network's answer was kept (A eq. 12) for {sum(kept)} of {len(kept)}."
    )
    return Summary(
        comparison,
        rows,
        figures,
        [Table("All ways", header, table, note)],
        {
            "pipeline": ("Before and after, by patient (A Fig. 13)", plots.before_after(groups, last_labels)),
            "pipeline_success": ("Success by limit", plots.success(errors)),
        },
    )


# -- losses ---------------------------------------------------------------------------------------------------------


def loss_items(study: Study, n: int) -> list[Item]:
    """A patient an item."""
    return [{"subject": who} for who in study.subjects(n)]


def loss_work(study: Study, item: Item) -> dict[str, Any]:
    """Both stages from the radiological pose, every score of the way."""
    of = subject(study, item["subject"])
    poses = np.asarray(pose.radiological(of.cta.centre_mm))[None]
    result: dict[str, Any] = {"before": _both(of, poses)["mm"][0]}
    for stage in paper_stages(study.small):
        found = descend(study, of, stage, poses)
        poses = found.pose.numpy()
        trace = found.trace[:, 0].numpy()
        result[stage.score] = {
            "trace": rounded(trace[:: 1 if study.small else EVERY]),
            "mpe_mm": _both(of, poses)["mm"][0],
            "first": float(trace[0]),
            "best": float(trace.max()),
            # When 95 % of the gain was there: A finds most of it within 500 and within 25 iterations.
            "settled": int(np.argmax(trace >= trace[0] + 0.95 * (trace.max() - trace[0]))),
        }
    return result


def loss_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 3.5 and 3.6: a curve a patient."""
    from DeepIterRegLib.studies.experiments import plots

    every = 1 if study.small else EVERY
    rows, comparison, drawings, figures, table = [], [], {}, {}, []
    said = {
        "ncc": (
            "NCC",
            "Stage 1, NCC (A Fig. 3.5)",
            "most converged in under 500 iterations, some still rise after 1500",
        ),
        "mutual_information": (
            "mutual information",
            "Stage 2, mutual information (A Fig. 3.6)",
            "in many cases most of the gain in the first 25 iterations",
        ),
    }
    for score, (name, title, words) in said.items():
        curves = np.array([r[score]["trace"] for _, r in done]).T
        settled = np.array([r[score]["settled"] for _, r in done])
        drawings[f"losses_{score}"] = (
            title,
            plots.traces(
                {name: ([float(n * every) for n in range(len(curves))], curves)},
                name,
            ),
        )
        gain = np.array([r[score]["best"] - r[score]["first"] for _, r in done])
        comparison.append(
            (title, words, f"95 % of the gain after {np.median(settled):.0f} iterations (median; {settled.min()} to {settled.max()}); gain {np.median(gain):.3g}")
        )  # fmt: skip
        figures[score] = {"median_settled": float(np.median(settled)), "median_gain": float(np.median(gain))}
    for item, r in done:
        row = {"patient": subject_name(item["subject"]), "before_mm": r["before"]}
        for score in said:
            row |= {f"{score}_{key}": r[score][key] for key in ("first", "best", "settled", "mpe_mm")}
        rows.append(row)
        table.append([f"{v:.4g}" if isinstance(v, float) else v for v in row.values()])
    return Summary(
        comparison, rows, figures, [Table("By patient", [key.replace("_", " ") for key in rows[0]], table)], drawings
    )


# -- pose statistics ---------------------------------------------------------------------------------------------------

COMPONENTS = ("turn R", "turn A", "turn S", "shift R", "shift A", "shift S")


def statistics_items(study: Study, n: int) -> list[Item]:
    """A patient an item."""
    return [{"subject": who} for who in study.subjects(n)]


def statistics_work(study: Study, item: Item) -> dict[str, Any]:
    """How the true pose differs from the radiological one: turns about R, A, S (deg) and shifts along them (mm)."""
    who = item["subject"]
    if "phantom" in who:
        from DeepIterRegLib.phantom import make_patient
        from DeepIterRegLib.phantom.settings import CtaSettings

        # Coarse, as nothing is registered: the offset comes from the seed alone.
        coarse = CtaSettings(in_plane_spacing_mm=(3.0, 3.0), slice_spacing_mm=(3.0, 3.0))
        settings = replace(phantom_settings(True), offset=phantom_settings(study.small).offset, cta=coarse)
        patient = make_patient(who["phantom"], settings)
        truth, centre = patient.cta_to_carm, patient.cta.centre_mm
    else:
        truth, centre = _reference(study, who["case"])
    offset = truth @ np.asarray(pose.inverse(pose.radiological(centre)))
    shift = pose.transform(truth, centre[None])[0]
    values = [*np.asarray(pose.rotation_to_euler_deg(offset[:3, :3])), *shift]
    return dict(zip(COMPONENTS, (float(value) for value in values), strict=True))


def _reference(study: Study, name: str) -> tuple[np.ndarray, np.ndarray]:
    """True pose and centre of the CTA; nothing is segmented."""
    from DeepIterRegLib.cases.files import case_of_files
    from DeepIterRegLib.images.cta_checks import prepare_cta

    case = case_of_files(next(job for known, job, _ in study.cases if known == name))
    if case.reference is None:
        raise InputError("Its column reference is empty: experiments need the true pose.")
    return case.reference(), prepare_cta(case.cta())[0].centre_mm


def statistics_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 3.2: every component of every patient, with the 95th percentile."""
    from DeepIterRegLib.studies.experiments import plots

    values = np.array([[r[name] for name in COMPONENTS] for _, r in done])
    high = np.quantile(np.abs(values), 0.95, axis=0)
    drawing, axes = plots.figure(8.4, 3.8, 1, 2)
    rng = np.random.default_rng(0)
    for one, columns, unit in ((axes[0], range(3), "deg"), (axes[1], range(3, 6), "mm")):
        for n, column in enumerate(columns):
            one.plot(
                n + rng.uniform(-0.18, 0.18, len(values)),
                values[:, column],
                "o",
                ms=3,
                alpha=0.6,
                color=plots.COLOURS[0],
            )
            one.plot([n - 0.3, n + 0.3], [high[column]] * 2, color=plots.BAD, lw=1.2)
            one.plot([n - 0.3, n + 0.3], [-high[column]] * 2, color=plots.BAD, lw=1.2)
        one.set(xticks=range(3), xticklabels=[COMPONENTS[c] for c in columns], ylabel=unit)
    table = [
        [name, f"{v.mean():+.1f}", f"{v.std():.1f}", f"{h:.1f}", f"{np.abs(v).max():.1f}"]
        for name, v, h in zip(COMPONENTS, values.T, high, strict=True)
    ]
    shown = ", ".join(f"{name} {h:.0f}" for name, h in zip(COMPONENTS, high, strict=True))
    notes: Sequence[str] = ()
    if not study.cases:
        notes = (
            "The offsets of phantoms are drawn uniformly, the same on every axis: only references of real patients tell how heads lie.",
        )
    return Summary(
        [
            (
                "95th percentile of each component, deg and mm",
                "largest: rotations about X and Y, translation along X (a plot)",
                shown,
            )
        ],
        [{"patient": subject_name(i["subject"]), **r} for i, r in done],
        {name: float(h) for name, h in zip(COMPONENTS, high, strict=True)},
        [Table("Components", ["", "mean", "standard deviation", "95th percentile of the size", "largest"], table)],
        {"pose_statistics": ("Turn and shift of each patient; red: 95th percentile (A Fig. 3.2)", drawing)},
        notes,
    )


_STAGES = (
    "The paper's stages with its settings (NCC of the vessel mask, then mutual information of the MinIP; Adam, 2000 iterations each), but "
    "splatted at 128 rows instead of ray-cast, which takes half an hour a patient on a processor, and batched over poses. "
    "Phantoms: one injected territory, occlusion, motion, noise; the CTA's masks are the truth, the run is segmented by this software; "
    "its skull differs from the CTA's (jaw, headrest, beam hardening, a blurred CT). "
    "px are of a grid of 256 rows, about the paper's."
)
_STARTS = f" Starts are up to {ROTATION_DEG:g} deg and {TRANSLATION_PX:g} px from the truth on every axis, {STARTS} a patient (the paper does not say how many), near and far alike, the same for all."

ANATOMY = Experiment(
    "Which anatomy registers",
    "Paper A, section 4.4 and Figure 8",
    _STAGES
    + _STARTS
    + " Only stage 1. Veins and arteries of the CTA are compared with those of the run, all others with all its vessels.",
    "patients",
    TEST_SET,
    1,
    anatomy_items,
    anatomy_work,
    anatomy_summary,
)
CAPTURE_RANGE = Experiment(
    "Capture range",
    "Paper A, section 4.7.2 and Figure 12",
    _STAGES + _STARTS + " The search looks in a box about the start; the network is asked from the start.",
    "patients",
    TEST_SET,
    1,
    capture_items,
    capture_work,
    capture_summary,
)
PIPELINE = Experiment(
    "The whole pipeline, with and without its parts",
    "Paper A, sections 4.5, 4.7.1 and 4.8, Figures 9, 10 and 13",
    _STAGES
    + " From the radiological pose. The network is asked once, and its answer kept only if it scores no lower (eq. 12).",
    "patients",
    TEST_SET,
    1,
    pipeline_items,
    pipeline_work,
    pipeline_summary,
)
LOSSES = Experiment(
    "Loss traces of every patient",
    "Paper A, supplementary Figures 3.5 and 3.6",
    _STAGES + " From the radiological pose. The curves are similarities: higher is better.",
    "patients",
    TEST_SET,
    1,
    loss_items,
    loss_work,
    loss_summary,
)
POSE_STATISTICS = Experiment(
    "How heads lie in the C-arm",
    "Paper A, supplementary Figure 3.2",
    "The true pose of each patient against the radiological one: turns about the C-arm's axes R, A, S through the CTA's centre, and shifts "
    "of that centre along them.",
    "patients",
    94,
    3,
    statistics_items,
    statistics_work,
    statistics_summary,
)
