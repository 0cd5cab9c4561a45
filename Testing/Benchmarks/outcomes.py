"""Many registrations with a known truth: what is recorded of each, and how they are summed up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import table, verdict

from DeepIterRegLib.common.errors import InputError, RegistrationError
from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.scene import make_scene
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.vessels.search import refine_poses
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa
from DeepIterRegLib.studies.experiments.metrics import wilson

NEAR_MM = 2.0  # on the detector: a DSA pixel so near to a projected CTA vessel is explained by it


def register_and_judge(
    cta: Volume,
    angiogram: Angiogram,
    settings: RegistrationSettings,
    truth: np.ndarray,
    cta_mask: Volume | None = None,
) -> dict[str, Any]:
    """MPE before and after, seconds, scores found and at the truth. What `register` refuses is an outcome, not an end.

    Vessels by our own segmentation: of the DSA always, of the CTA unless `cta_mask` is given.
    """
    carm, centre = angiogram.carm, cta.centre_mm
    result: dict[str, Any] = {"mpe_before_mm": float(mpe_mm(carm, pose.radiological(centre), truth, centre))}
    try:
        if cta_mask is None:
            cta_mask = segment_vessels(cta)
        masks = segment_dsa(angiogram)
        result |= {
            "near_truth": explained_share(cta_mask, masks, angiogram, truth),
            **truth_scores(cta_mask, masks, angiogram, settings, truth, centre),
        }
        found = register(cta, angiogram, settings, cta_mask=cta_mask, dsa_masks=masks)
    except (InputError, RegistrationError) as error:
        return {**result, "error": str(error)}
    return {
        **result,
        "mpe_mm": float(mpe_mm(carm, found.cta_to_carm, truth, centre)),
        "seconds": found.seconds["total"],
        "score": found.score,
        "stage_score": found.stages[-1].score,
        "ctaToCarm": found.cta_to_carm.tolist(),
    }


def truth_scores(
    cta_mask: Volume,
    masks: DsaMasks,
    angiogram: Angiogram,
    settings: RegistrationSettings,
    truth: np.ndarray,
    centre_cta_mm: np.ndarray,
) -> dict[str, float]:
    """Score of the last level at the truth itself, and where the same levels lead from there.

    Comparable with the score that `register` ends with, which comes from the same levels, points and seed.
    """
    scene = make_scene(cta_mask, [angiogram], [masks], centre_cta_mm)
    common = (scene.points, scene.views)
    still = (replace(settings.levels[-1], iterations=0),)
    at_truth = refine_poses(truth[None], *common, still, settings.search.saturation_mm, seed=settings.seed)
    from_truth = refine_poses(truth[None], *common, settings.levels, settings.search.saturation_mm, seed=settings.seed)
    drift_mm = mpe_mm(angiogram.carm, from_truth.cta_to_carm, truth, centre_cta_mm)
    return {
        "truth_score": at_truth.score,
        "from_truth_score": from_truth.score,
        "from_truth_mpe_mm": float(drift_mm),
    }


def explained_share(cta_mask: Volume, masks: DsaMasks, angiogram: Angiogram, truth: np.ndarray) -> float:
    """Share of the DSA's vessel pixels within NEAR_MM of the CTA's vessels projected at the truth."""
    from scipy import ndimage

    carm = angiogram.carm
    px = np.rint(carm.project(cta_mask.to_ras(np.argwhere(cta_mask.voxels)), truth)).astype(int)
    inside = np.all((px >= 0) & (px < [carm.columns, carm.rows]), axis=1)
    shadow = np.zeros((carm.rows, carm.columns), dtype=bool)
    shadow[px[inside, 1], px[inside, 0]] = True
    if not shadow.any() or not masks.vessels.any():
        return 0.0
    distance_mm = ndimage.distance_transform_edt(~shadow, sampling=carm.pixel_spacing_mm)
    return float((distance_mm[masks.vessels] <= NEAR_MM).mean())


# -- sums ----------------------------------------------------------------------------------------------


def succeeded(record: dict[str, Any]) -> bool:
    """MPE below paper A's limit."""
    return bool(record.get("mpe_mm", math.inf) < SUCCESS_MM)


def cause(record: dict[str, Any]) -> str:
    """Why a case failed: the search did not find the better pose near the truth, or a wrong pose scored higher."""
    if "error" in record:
        return f"refused: {record['error']}"
    near = [record["truth_score"]]
    if record["from_truth_mpe_mm"] < SUCCESS_MM:
        near.append(record["from_truth_score"])
    return "search" if max(near) > record["stage_score"] else "similarity"


def summary(records: Sequence[dict[str, Any]], target_rate: float, target_median_mm: float) -> str:
    """Rate, interval, median and means, as a Markdown table."""
    errors = np.array([record.get("mpe_mm", math.inf) for record in records])
    before = np.array([record["mpe_before_mm"] for record in records])
    good = errors < SUCCESS_MM
    low, high = wilson(int(good.sum()), len(errors))
    rate, middle = float(good.mean()), float(np.median(errors))
    seconds = [record["seconds"] for record in records if "seconds" in record]
    rows = [
        [
            f"MPE below {SUCCESS_MM:g} mm",
            f"{good.sum()} of {len(good)} ({100 * rate:.0f} %)",
            f"{100 * target_rate:.0f} %",
            verdict(rate >= target_rate),
        ],
        ["95 % interval (Wilson)", f"{100 * low:.0f} to {100 * high:.0f} %", "", ""],
        ["median MPE", f"{middle:.2f} mm", f"{target_median_mm:g} mm", verdict(middle < target_median_mm)],
        ["mean MPE of successes", f"{errors[good].mean() if good.any() else math.nan:.2f} mm", "", ""],
        ["largest MPE of successes", f"{errors[good].max() if good.any() else math.nan:.2f} mm", "", ""],
        ["MPE before: median, range", f"{np.median(before):.0f} mm, {before.min():.0f} to {before.max():.0f}", "", ""],
        ["seconds of `register`: median", f"{np.median(seconds) if seconds else math.nan:.1f}", "", ""],
    ]
    return table(["", "measured", "target", ""], rows)


def failures(records: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """Each failure with its cause, as a Markdown table; `columns` are more fields of the records."""
    failed = [record for record in records if not succeeded(record)]
    if not failed:
        return "No failures."
    rows = [
        [
            ", ".join(str(value) for value in record["case"].values() if not isinstance(value, bool)),
            *(record.get(column, "-") for column in columns),
            f"{record['mpe_before_mm']:.0f}",
            f"{record['mpe_mm']:.1f}" if "mpe_mm" in record else "-",
            f"{record['stage_score']:.3f}" if "stage_score" in record else "-",
            *(
                (
                    f"{record['truth_score']:.3f}",
                    f"{record['from_truth_score']:.3f} ({record['from_truth_mpe_mm']:.1f} mm)",
                    f"{100 * record['near_truth']:.0f} %",
                )
                if "truth_score" in record
                else "---"
            ),
            cause(record),
        ]
        for record in failed
    ]
    header = [
        "case",
        *columns,
        "before mm",
        "MPE mm",
        "score found",
        "at truth",
        "refined from truth",
        "explained",
        "cause",
    ]
    note = (
        "Scores are of the last level. Climbed from truth: the same levels started there, and how far from the truth they "
        f"led. Explained: share of the DSA's vessel pixels within {NEAR_MM:g} mm of the CTA's vessels projected at the truth. "
        "Cause `search`: a pose near the truth scores higher than the one found; `similarity`: none does."
    )
    return f"{table(header, rows)}\n\n{note}"


def plot(records: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """MPE after against before, and the share of cases below each limit from 1 to 10 mm."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    before = np.array([record["mpe_before_mm"] for record in records])
    after = np.array([record.get("mpe_mm", 300.0) for record in records])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    good = after < SUCCESS_MM
    left.semilogy(before[good], after[good], "o", ms=4, color="#1f77b4")
    left.semilogy(before[~good], after[~good], "x", ms=6, color="#d62728")
    left.axhline(SUCCESS_MM, color="0.6", lw=1)
    left.set(xlabel="MPE before, mm", ylabel="MPE after, mm", title=title)
    limits = np.linspace(0, 10, 201)
    share = [float((after < limit).mean()) for limit in limits]
    right.plot(limits, np.multiply(share, 100), color="#1f77b4")
    right.axvline(SUCCESS_MM, color="0.6", lw=1)
    right.set(
        xlabel="limit, mm",
        ylabel="cases below the limit, %",
        ylim=(0, 102),
        xlim=(0, 10),
        title=f"{len(records)} cases",
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)
