"""The whole pipeline, with and without its parts (A 4.5, 4.7.1 and 4.8, Figures 9, 10 and 13)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.mpe import SUCCESS_MM
from DeepIterRegLib.registration.network.proposals import NetworkInit, network_poses
from DeepIterRegLib.registration.scene import scene_znccs
from DeepIterRegLib.registration.vessels.search import SearchSettings
from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table
from DeepIterRegLib.studies.experiments.objects import Item, Study, Subject, subject, subject_name
from DeepIterRegLib.studies.experiments.paper_a.stages import (
    REFUSED,
    STAGES_PROTOCOL,
    TEST_SET,
    descend,
    our_settings,
    paper_stages,
    registered,
)
from DeepIterRegLib.studies.experiments.papers import PAPER_A

PIPELINES = {
    "2": "two-stage, no network (NCC)",
    "3": "three-stage, no network (NCC, MI)",
    "2n": "two-stage with network (NCC)",
    "3n": "three-stage with network (NCC, MI)",
    "search": "search + second order (ours, vessels alone)",
    "auto": "auto (our default)",
}
PAPER_FIGURES = {
    "2": "11 of 20, 1.71 mm (1.94 px) on successes; 21.14 mm before, 9.78 mm after",
    "3": "not given for these 20 without network",
    "2n": "14 of 20, 2.13 mm (2.44 px) on successes; 7.62 mm after",
    "3n": "14 of 20, 2.08 mm on successes",
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
        found = registered(of, our_settings(study, item["way"]), start)
        errors = dict.fromkeys(result["before"], REFUSED) if found is None else of.errors(found)
        return {**result, item["way"]: errors, "seconds": time.perf_counter() - begin}
    # With the network the same stages follow; only where they start differs.
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
    # One answer, unrefined: paper A asks its network once.
    seen = of.scene
    try:
        answer = network_poses(seen, start, NetworkInit(starts=1, rounds=1), 0)[0]
    except InputError:
        return start, False
    before, after = scene_znccs(seen, np.stack([start, answer]), SearchSettings().saturation_mm, 0)
    return (answer, True) if after >= before else (start, False)


def pipeline_summary(study: Study, done: list[Done]) -> Summary:
    """A 4.7.1 and 4.8, Fig. 13: successes, MPE of successes, before and after by patient."""
    from DeepIterRegLib.studies.experiments import plots

    ways = {way: _patients(way, done) for way in PIPELINES if any(way in r for _, r in done)}
    accepted = [r["accepted"] for _, r in done if "accepted" in r]
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
        f"The network's answer was kept (A eq. 12) for {sum(accepted)} of {len(accepted)}."
    )
    pairs = {PIPELINES[way]: (found.before_mm, found.after_mm) for way, found in ways.items()}
    # The plot names the points of the last way alone: names of all would cover one another.
    labels = [name.removeprefix("phantom ") for name in list(ways.values())[-1].names] if ways else []
    return Summary(
        [(PIPELINES[way], PAPER_FIGURES.get(way, "-"), _sentence(found)) for way, found in ways.items()],
        [row for way, found in ways.items() for row in found.rows(way)],
        {way: _figures(found) for way, found in ways.items()},
        [Table("All ways", header, [_line(PIPELINES[way], found) for way, found in ways.items()], note)],
        {
            "pipeline": ("Before and after, by patient (A Fig. 13)", plots.before_after(pairs, labels)),
            "pipeline_success": (
                "Success by limit",
                plots.success({label: after for label, (_, after) in pairs.items()}),
            ),
        },
    )


@dataclass(frozen=True)
class _Patients:
    """All patients registered one way: names, and measures of each before and after, as `Subject.errors`."""

    names: list[str]
    before: list[dict[str, float]]
    after: list[dict[str, float]]

    @property
    def before_mm(self) -> np.ndarray:
        """MPE (N,)."""
        return np.array([each["mpe_mm"] for each in self.before])

    @property
    def after_mm(self) -> np.ndarray:
        """MPE (N,)."""
        return np.array([each["mpe_mm"] for each in self.after])

    @property
    def answered(self) -> np.ndarray:
        """(N,) bool: those that were not refused."""
        return self.after_mm < REFUSED

    @property
    def good(self) -> np.ndarray:
        """(N,) bool."""
        return self.after_mm < SUCCESS_MM

    def of_good(self, measure: str) -> float:
        """Mean of a measure over the successes."""
        values = [each[measure] for each, good in zip(self.after, self.good, strict=True) if good]
        return float(np.mean(values)) if values else float("nan")

    def rows(self, way: str) -> list[dict[str, Any]]:
        """Of the CSV."""
        return [
            {"patient": name, "way": way, "before_mm": before["mpe_mm"], **after}
            for name, before, after in zip(self.names, self.before, self.after, strict=True)
        ]


def _patients(way: str, done: list[Done]) -> _Patients:
    mine = [(item, result) for item, result in done if way in result]
    names = [subject_name(item["subject"]) for item, _ in mine]
    return _Patients(names, [r["before"] for _, r in mine], [r[way] for _, r in mine])


def _line(label: str, found: _Patients) -> list[str]:
    """Of the table, for people."""
    n, good = len(found.names), int(found.good.sum())
    low, high = metrics.wilson(good, n)
    after_px = np.array([each["mpe_px"] for each in found.after])[found.answered]
    return [
        label,
        f"{good} of {n} ({100 * low:.0f} to {100 * high:.0f} %)",
        f"{found.of_good('mpe_mm'):.2f} mm, {found.of_good('mpe_px'):.2f} px",
        f"{found.before_mm.mean():.1f} mm",
        f"{found.after_mm[found.answered].mean():.2f} mm, {after_px.mean():.2f} px",
        f"{found.of_good('mrpd_mm'):.2f}",
        f"{found.of_good('mtre_mm'):.2f}",
        f"{found.of_good('double_geodesic_mm'):.1f}",
    ]


def _sentence(found: _Patients) -> str:
    """Beside the paper's figures."""
    after_mm = found.after_mm[found.answered].mean()
    return (
        f"{found.good.sum()} of {len(found.names)}, {found.of_good('mpe_mm'):.2f} mm on successes; "
        f"{found.before_mm.mean():.1f} mm before, {after_mm:.1f} mm after"
    )


def _figures(found: _Patients) -> dict[str, Any]:
    """Of the JSON."""
    return {
        "n": len(found.names),
        "below_5_mm": int(found.good.sum()),
        "mean_mm_of_successes": found.of_good("mpe_mm"),
        "before_mm": float(found.before_mm.mean()),
        "after_mm": float(found.after_mm[found.answered].mean()),
        "refused": int((~found.answered).sum()),
        "success_curve": metrics.success_curve(found.after_mm).tolist(),
    }


PIPELINE = Experiment(
    "The whole pipeline, with and without its parts",
    PAPER_A,
    "Paper A, sections 4.5, 4.7.1 and 4.8, Figures 9, 10 and 13",
    STAGES_PROTOCOL
    + " From the radiological pose. The network is asked once, and its answer kept only if it scores no lower (eq. 12).",
    "patients",
    TEST_SET,
    1,
    pipeline_items,
    pipeline_work,
    pipeline_summary,
)
