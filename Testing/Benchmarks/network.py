"""The initial pose network on patients never used in training or tuning: alone, before the refinement, and beside the search."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import benchmarking
import numpy as np
from benchmarking import Case, Result, table, verdict

from DeepIterRegLib.registration.network.proposals import NetworkInit
from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.metrics import BINS, CAPTURED_PX

# The patients that judge the main job; the network is trained on heads of other seeds.
SEEDS, SMALL_SEEDS = range(3000, 3100), range(40, 42)
ROTATION_DEG, TRANSLATION_PX, PX_ROWS = 35.0, 45.0, 256
STARTS = 2  # perturbed starts a patient
NEAR_PATIENTS, NEAR_STARTS = 20, 3  # and nearer ones for the refinement alone
PUBLISHED = NetworkInit(starts=1, rounds=1)


def run_case(case: Case) -> Result:
    """One patient, segmented once, registered from several starts and in several ways."""
    import robustness

    from DeepIterRegLib.geometry import mpe_mm, pose
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.registration.settings import RegistrationSettings
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.studies.experiments.objects import run_as_read

    patient = make_patient(case["seed"], robustness.phantom_settings(case.get("small", False)))
    angiogram = run_as_read(patient)
    cta, carm, truth = patient.cta, patient.carm, patient.cta_to_carm
    vessels, masks = segment_vessels(cta), segment_dsa(angiogram)
    centre = cta.centre_mm
    px_mm = carm.rows * carm.pixel_spacing_mm[0] / PX_ROWS

    def error(found: np.ndarray) -> float:
        return float(mpe_mm(carm, found, truth, centre))

    radiological = pose.radiological(centre)
    found: Result = {
        "injection": patient.run.injection,
        "px_mm": px_mm,
        "radiological_mm": error(radiological),
        **asked(vessels, masks, angiogram, radiological, truth, centre),
    }
    for init in ("search", "network"):
        mm, seconds, warned = registered(
            cta, angiogram, vessels, masks, RegistrationSettings.preset("default", init=init), None, error
        )
        found |= {f"{init}_mm": mm, f"{init}_s": seconds, f"{init}_warned": warned}
    rng = np.random.default_rng([case["seed"], 4])
    found["starts"] = []
    for _ in range(STARTS):
        start = perturbed(rng, truth, centre, px_mm / carm.magnification, 1.0)
        alone = asked(vessels, masks, angiogram, start, truth, centre)
        refined = registered(
            cta, angiogram, vessels, masks, RegistrationSettings.preset("default", init="file"), start, error
        )
        both = registered(
            cta, angiogram, vessels, masks, RegistrationSettings.preset("default", init="network"), start, error
        )
        found["starts"].append(
            {
                "before_mm": error(start),
                "alone_mm": alone.get("alone_mm"),
                "best_mm": alone.get("best_mm"),
                "refined_mm": refined[0],
                "both_mm": both[0],
            }
        )
    return found


def run_near(case: Case) -> Result:
    """The refinement alone from starts nearer than those of `run_case`."""
    import robustness

    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.registration.settings import RegistrationSettings
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.studies.experiments.objects import run_as_read

    patient = make_patient(case["seed"], robustness.phantom_settings(case.get("small", False)))
    angiogram, cta, carm, truth = run_as_read(patient), patient.cta, patient.carm, patient.cta_to_carm
    vessels, masks = segment_vessels(cta), segment_dsa(angiogram)
    px_mm = carm.rows * carm.pixel_spacing_mm[0] / PX_ROWS

    def error(found: np.ndarray) -> float:
        return float(mpe_mm(carm, found, truth, cta.centre_mm))

    rng = np.random.default_rng([case["seed"], 5])
    starts = []
    for _ in range(NEAR_STARTS):
        start = perturbed(rng, truth, cta.centre_mm, px_mm / carm.magnification, rng.uniform(0, 0.6))
        found = registered(
            cta, angiogram, vessels, masks, RegistrationSettings.preset("default", init="file"), start, error
        )
        starts.append({"before_mm": error(start), "refined_mm": found[0]})
    return {"px_mm": px_mm, "starts": starts}


def perturbed(
    rng: np.random.Generator, truth: np.ndarray, centre_cta_mm: np.ndarray, px_mm: float, size: float
) -> np.ndarray:
    """The truth moved by `size` times up to 35 deg and 45 px (`px_mm` at the isocentre) on every axis."""
    from DeepIterRegLib.geometry import pose

    turn = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * ROTATION_DEG * size)
    return np.asarray(
        pose.offset_about(truth, centre_cta_mm, turn, rng.uniform(-1, 1, 3) * TRANSLATION_PX * px_mm * size)
    )


def asked(
    vessels: Any,
    masks: Any,
    angiogram: Any,
    start: np.ndarray,
    truth: np.ndarray,
    centre: np.ndarray,
    weights: str = "",
) -> dict[str, Any]:
    """The network alone: as published (one answer, kept if it scores no lower than the start, A eq. 12), and as used here."""
    published, ours = replace(PUBLISHED, weights=weights), NetworkInit(weights)
    from DeepIterRegLib.common.errors import InputError
    from DeepIterRegLib.geometry import mpe_mm
    from DeepIterRegLib.registration import scene as sceneNodes
    from DeepIterRegLib.registration.network import proposals
    from DeepIterRegLib.registration.scene import make_scene

    carm = angiogram.carm
    scene = make_scene(vessels, [angiogram], [masks], centre)
    try:
        proposals.network_poses(scene, start, published, 0)  # loads the weights
        begin = time.perf_counter()
        answer = proposals.network_poses(scene, start, published, 0)[0]
        seconds = time.perf_counter() - begin
        many = proposals.network_poses(scene, start, ours, 0)
    except InputError as error:
        return {"refused": str(error)}
    scores = sceneNodes.scene_znccs(scene, np.stack([start, answer]), 5.0, 0)
    best = many[np.argmax(sceneNodes.scene_znccs(scene, many, 5.0, 0))]
    return {
        "alone_mm": float(mpe_mm(carm, answer, truth, centre)),
        "kept": bool(scores[1] >= scores[0]),
        "alone_s": seconds,
        "best_mm": float(mpe_mm(carm, best, truth, centre)),
    }


def registered(
    cta: Any, angiogram: Any, vessels: Any, masks: Any, settings: Any, start: np.ndarray | None, error: Any
) -> tuple[float | None, float, list[str]]:
    """MPE (None if refused), seconds and warnings of one registration."""
    from DeepIterRegLib.common.errors import RegistrationError
    from DeepIterRegLib.registration.pipeline import register

    begin = time.perf_counter()
    try:
        found = register(cta, angiogram, settings, cta_mask=vessels, dsa_masks=masks, initial_pose=start)
    except RegistrationError as refused:
        return None, time.perf_counter() - begin, [str(refused)]
    return error(found.cta_to_carm), found.seconds["total"], list(found.warnings)


# -- sums ------------------------------------------------------------------------------------------------


def values(records: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """A field of all records; what is absent or refused counts as infinitely wrong."""
    return np.array([math.inf if record.get(name) is None else record[name] for record in records], dtype=float)


def main(argv: list[str] | None = None) -> None:
    from DeepIterRegLib.registration.network.weights import SHIPPED, read_card
    from DeepIterRegLib.registration.settings import RegistrationSettings

    options = benchmarking.parse("network", __doc__ or "", argv, jobs=min(benchmarking.cores(), 4))
    seeds = SMALL_SEEDS if options.small else SEEDS
    cases: list[Case] = [{"seed": seed, **({"small": True} if options.small else {})} for seed in seeds]
    settings = {
        "weights": read_card(SHIPPED)["sha256"],
        "registration": asdict(replace(RegistrationSettings.preset("default", init="auto"))),
        "starts": STARTS,
    }
    records = benchmarking.run_cases("network", cases, run_case, settings, options)
    near = benchmarking.run_cases(
        "network_near", cases[:NEAR_PATIENTS], run_near, {"starts": NEAR_STARTS, **settings}, options
    )
    plot(records, near, options.results / "network.png")
    body = "\n\n".join(
        [
            f"Weights `{SHIPPED.name}`, SHA-256 {settings['weights'][:12]}. Patients as in [robustness](robustness.md), CTA from "
            "memory; veins of both by our own "
            "segmentation. MPE in mm on the detector; px are of a grid of 256 rows.",
            "## The network alone",
            alone(records),
            "## Capture range (A 4.7.2)",
            capture(records, near),
            "## Beside the search, from the radiological pose",
            beside(records),
            "![Capture range](network.png)",
        ]
    )
    benchmarking.write_result(
        "network", f"The initial pose network: {len(records)} phantom patients", body, options, records
    )


def all_starts(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every perturbed start of every patient."""
    return [{**start, "px_mm": record["px_mm"]} for record in records for start in record["starts"]]


def alone(records: Sequence[dict[str, Any]]) -> str:
    """Errors before and after the network, what eq. 12 discards, how long it takes."""
    rows = []
    starts = all_starts(records)
    perturbed = f"+-{ROTATION_DEG:g} deg, +-{TRANSLATION_PX:g} px, every axis"
    default = NetworkInit()
    ours = f"{default.starts} starts, {default.rounds} rounds, best by score"
    for origin, group, before_name in (
        (perturbed, starts, "before_mm"),
        ("radiological pose", records, "radiological_mm"),
    ):
        before = values(group, before_name)
        for name, field in (("asked once, as published", "alone_mm"), (ours, "best_mm")):
            after = values(group, field)
            ratio = float(np.median(after) / np.median(before))
            rows.append(
                [
                    origin,
                    name,
                    f"{np.median(before):.1f} mm",
                    f"{np.median(after):.1f} mm",
                    f"{ratio:.2f}",
                    verdict(ratio <= 0.5),
                ]
            )
    kept = [record for record in records if record.get("kept")]
    dropped = [record for record in records if record.get("kept") is False]
    worse = [record for record in dropped if record["alone_mm"] > record["radiological_mm"]]
    harmful = [record for record in kept if record["alone_mm"] > record["radiological_mm"]]
    seconds = [record["alone_s"] for record in records if "alone_s" in record]
    refused = [record for record in records if "refused" in record]
    text = (
        f"A eq. 12, from the radiological pose: {len(kept)} answers kept, {len(harmful)} of them farther from the truth than "
        f"the start; {len(dropped)} discarded, "
        f"{len(worse)} of them farther. Not asked for want of veins: {len(refused)}. "
        f"Time with opening of the CTA's veins, rendering and one answer: median {1000 * np.median(seconds):.0f} ms, "
        f"largest {1000 * max(seconds):.0f} ms (target 150 ms: {verdict(float(np.median(seconds)) <= 0.15)}; "
        f"{records[0]['jobs']} processes at once)."
    )
    if dropped:
        some = [
            [str(record["case"]["seed"]), f"{record['radiological_mm']:.0f}", f"{record['alone_mm']:.0f}"]
            for record in dropped[:8]
        ]
        text += "\n\nDiscarded, the first eight:\n\n" + table(
            ["seed", "MPE at the radiological pose", "MPE of the answer"], some
        )
    return table(["from", "network", "median before", "median after", "ratio", "at most half"], rows) + "\n\n" + text


def capture(records: Sequence[dict[str, Any]], near: Sequence[dict[str, Any]]) -> str:
    """Bins of MPE before against the median after: refinement alone, network and refinement."""
    starts = all_starts(records)
    close = all_starts(near)
    blocks, reach = [], {}
    for name, group, field in (
        ("refinement alone", close + starts, "refined_mm"),
        ("network + refinement", starts, "both_mm"),
    ):
        px = values(group, "px_mm")
        found = metrics.capture_range(values(group, "before_mm") / px, values(group, field) / px)
        reach[name] = found.reach
        rows = [
            [f"{b.low:.0f} to {b.high:.0f}", f"{b.median_after:.1f}", f"{100 * b.captured:.0f} %"] for b in found.bins
        ]
        blocks.append(table([f"{name}: MPE before, px", "median after, px", "below 5 px"], rows))
    alone_px, both_px = reach["refinement alone"], reach["network + refinement"]
    factor = both_px / alone_px if alone_px else math.inf
    blocks.append(
        f"Capture range (end of the last bin whose median, and that of all before, is below {CAPTURED_PX:g} px): refinement "
        f"alone {alone_px:.0f} px, with the network {both_px:.0f} px, {factor:.1f} times (target 2: {verdict(factor >= 2)}; "
        f"paper A: 20 to 40 px). The refinement alone is also started from {len(close)} nearer poses, as it captures none of "
        "the far ones. inf: refused, no pose explains the run."
    )
    return "\n\n".join(blocks)


def beside(records: Sequence[dict[str, Any]]) -> str:
    """Successes, medians and seconds of search and network; of both together where records are from when `auto` asked both."""
    import outcomes
    from outcomes import SUCCESS_MM

    rows = []
    both = all("auto_mm" in record for record in records)
    for init in ("search", "network", *(["auto"] if both else [])):
        errors = values(records, f"{init}_mm")
        good = int((errors < SUCCESS_MM).sum())
        low, high = outcomes.wilson(good, len(errors))
        rows.append(
            [
                f"`{init}`",
                f"{good} of {len(errors)}",
                f"{100 * low:.0f} to {100 * high:.0f} %",
                f"{np.median(errors):.2f} mm",
                f"{np.median(values(records, f'{init}_s')):.1f}",
            ]
        )
    beside = table(
        ["init", f"MPE below {SUCCESS_MM:g} mm", "95 % interval", "median MPE", "seconds of `register`"], rows
    )
    if not both:
        return beside
    search, auto = values(records, "search_mm") < SUCCESS_MM, values(records, "auto_mm") < SUCCESS_MM
    seeds = np.array([record["case"]["seed"] for record in records])
    text = (
        f"Only `auto` succeeds: {', '.join(map(str, seeds[auto & ~search])) or 'none'}. "
        f"Only `search`: {', '.join(map(str, seeds[search & ~auto])) or 'none'}. "
        f"`auto` at least as often as `search`: {verdict(auto.sum() >= search.sum())}."
    )
    return f"{beside}\n\n{text}"


def plot(records: Sequence[dict[str, Any]], near: Sequence[dict[str, Any]], path: Path) -> None:
    """MPE after against before for refinement alone and with the network: medians of bins and single starts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), constrained_layout=True)
    starts = all_starts(records)
    for name, label, colour, group in (
        ("refined_mm", "refinement alone", "#7f7f7f", all_starts(near) + starts),
        ("alone_mm", "network alone", "#ff7f0e", starts),
        ("both_mm", "network + refinement", "#1f77b4", starts),
    ):
        px = values(group, "px_mm")
        before, after = values(group, "before_mm") / px, values(group, name) / px
        parts = np.array_split(np.argsort(before), min(BINS, len(before)))
        axes.plot(before, np.minimum(after, 150), ".", ms=3, color=colour, alpha=0.35)
        middles = [np.median(before[part]) for part in parts]
        axes.plot(middles, [min(150, np.median(after[part])) for part in parts], "-o", ms=4, color=colour, label=label)
    axes.axhline(CAPTURED_PX, color="0.6", lw=1)
    axes.set(
        xlabel="MPE before, px",
        ylabel="MPE after, px",
        ylim=(0.3, 160),
        yscale="log",
        title="Median of bins of equal count",
    )
    axes.legend(frameon=False, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
