"""The initial pose network's weights that ship beside others, asked alone on patients never used before.

The others are bench-cache/other_weights.safetensors with their card, such as those of an earlier commit.
"""

from __future__ import annotations

from typing import Any

import benchmarking
import numpy as np
from benchmarking import CACHE, Case, Result, table

SEEDS, SMALL_SEEDS = range(7500, 7540), range(40, 41)
OTHER = CACHE / "other_weights.safetensors"
STARTS = 2  # beside the radiological pose


def run_case(case: Case) -> Result:
    """One patient, segmented once, and the answers of both from several starts."""
    import network
    import robustness

    from DeepIterRegLib.geometry import mpe_mm, pose
    from DeepIterRegLib.phantom import make_patient
    from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
    from DeepIterRegLib.segmentation.dsa import segment_dsa
    from DeepIterRegLib.studies.experiments.objects import run_as_read

    patient = make_patient(case["seed"], robustness.phantom_settings(case.get("small", False)))
    run = run_as_read(patient)
    carm, truth, centre = patient.carm, patient.cta_to_carm, patient.cta.centre_mm
    vessels, masks = segment_vessels(patient.cta), segment_dsa(run)
    px_mm = carm.rows * carm.pixel_spacing_mm[0] / network.PX_ROWS / carm.magnification
    rng = np.random.default_rng([case["seed"], 4])
    starts = [np.asarray(pose.radiological(centre))]
    starts += [network.perturbed(rng, truth, centre, px_mm, 1.0) for _ in range(STARTS)]
    found = []
    for start in starts:
        answers = {
            name: network.asked(vessels, masks, run, start, truth, centre, weights)
            for name, weights in (("ships", ""), ("other", str(OTHER)))
        }
        kept = {
            name: {key: answer.get(key) for key in ("alone_mm", "best_mm", "kept")} for name, answer in answers.items()
        }
        found.append({"before_mm": float(mpe_mm(carm, start, truth, centre)), **kept})
    return {"starts": found}


def lines(records: list[dict[str, Any]], first: bool) -> list[list[str]]:
    """Of the radiological pose, or of the random starts; where the network could not be asked, for want of veins, nothing."""
    starts = [start for record in records for start in (record["starts"][:1] if first else record["starts"][1:])]
    asked = [start for start in starts if start["ships"]["alone_mm"] is not None]
    before = np.median([start["before_mm"] for start in asked])
    rows = []
    for name, words in (("other", "the others"), ("ships", "those that ship")):
        once, best = (np.array([start[name][key] for start in asked]) for key in ("alone_mm", "best_mm"))
        farther = sum(start[name]["alone_mm"] > start["before_mm"] for start in asked)
        rows.append(
            [
                "radiological pose" if first else "+-35 deg, +-45 px, every axis",
                words,
                len(asked),
                f"{before:.1f}",
                f"{np.median(once):.1f}",
                f"{np.median(best):.1f}",
                f"{best.mean():.1f}",
                farther,
            ]
        )
    return rows


def main(argv: list[str] | None = None) -> None:
    from DeepIterRegLib.registration.network.weights import SHIPPED, read_card

    options = benchmarking.parse("network_weights", __doc__ or "", argv)
    if not OTHER.exists():
        raise SystemExit(f"There are no weights to compare with: put them at {OTHER.relative_to(benchmarking.ROOT)}.")
    hashes = {"ships": read_card(SHIPPED)["sha256"], "other": read_card(OTHER)["sha256"]}
    extra = {"small": True} if options.small else {}
    cases: list[Case] = [{"seed": seed, **extra} for seed in (SMALL_SEEDS if options.small else SEEDS)]
    records = benchmarking.run_cases("network_weights", cases, run_case, {"weights": hashes, "starts": STARTS}, options)
    header = [
        "from",
        "weights",
        "starts",
        "before",
        "asked once",
        "best of 32, 2 rounds",
        "its mean",
        "once: farther than the start",
    ]
    body = f"Those that ship: SHA-256 {hashes['ships'][:12]}; the others: {hashes['other'][:12]}. MPE in mm on the detector, medians.\n\n"
    body += table(header, lines(records, True) + lines(records, False))
    title = f"The network's weights beside others: {len(cases)} patients never used before"
    benchmarking.write_result("network_weights", title, body, options, records)


if __name__ == "__main__":
    main()
