"""How heads lie in the C-arm (A supplementary Figure 3.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.studies.experiments.experiment import Done, Experiment, Summary, Table
from DeepIterRegLib.studies.experiments.objects import Item, Study, phantom_settings, subject_name
from DeepIterRegLib.studies.experiments.papers import PAPER_A

COMPONENTS = ("turn R", "turn A", "turn S", "shift R", "shift A", "shift S")
PATIENTS = 94  # A 4.5
_COARSE_MM = 3.0  # of the CTA of a phantom of which only the pose is asked
_HIGH = 0.95  # quantile of the sizes


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
        spacing_mm = (_COARSE_MM, _COARSE_MM)
        coarse = CtaSettings(in_plane_spacing_mm=spacing_mm, slice_spacing_mm=spacing_mm)
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
    """True pose (4, 4) and centre (3,) of the CTA; nothing is segmented."""
    from DeepIterRegLib.cases.files import case_of_files
    from DeepIterRegLib.images.cta_checks import prepare_cta

    case = case_of_files(next(job for known, job, _ in study.cases if known == name))
    if case.reference is None:
        raise InputError("Its column reference is empty: experiments need the true pose.")
    return case.reference(), prepare_cta(case.cta()).centre_mm


def statistics_summary(study: Study, done: list[Done]) -> Summary:
    """Fig. 3.2: every component of every patient, with the 95th percentile."""
    values = np.array([[r[name] for name in COMPONENTS] for _, r in done])
    high = np.quantile(np.abs(values), _HIGH, axis=0)
    table = [
        [name, f"{v.mean():+.1f}", f"{v.std():.1f}", f"{h:.1f}", f"{np.abs(v).max():.1f}"]
        for name, v, h in zip(COMPONENTS, values.T, high, strict=True)
    ]
    shown = ", ".join(f"{name} {h:.0f}" for name, h in zip(COMPONENTS, high, strict=True))
    said = (
        "95th percentile of each component, deg and mm",
        "largest: rotations about X and Y, translation along X (a plot)",
    )
    uniform = "The offsets of phantoms are drawn uniformly, the same on every axis: only references of real patients tell how heads lie."
    return Summary(
        [(*said, shown)],
        [{"patient": subject_name(i["subject"]), **r} for i, r in done],
        {name: float(h) for name, h in zip(COMPONENTS, high, strict=True)},
        [Table("Components", ["", "mean", "standard deviation", "95th percentile of the size", "largest"], table)],
        {
            "pose_statistics": (
                "Turn and shift of each patient; red: 95th percentile (A Fig. 3.2)",
                _drawing(values, high),
            )
        },
        () if study.cases else (uniform,),
    )


def _drawing(values: np.ndarray, high: np.ndarray) -> Any:
    """A dot for each patient and component (N, 6), lines at percentiles (6,); turns and shifts have an axis each."""
    from DeepIterRegLib.studies.experiments import plots

    drawing, axes = plots.figure(8.4, 3.8, 1, 2)
    rng = np.random.default_rng(0)  # for the sideways scatter, so that dots do not cover one another
    for one, columns, unit in ((axes[0], range(3), "deg"), (axes[1], range(3, 6), "mm")):
        for n, column in enumerate(columns):
            across = n + rng.uniform(-0.18, 0.18, len(values))
            one.plot(across, values[:, column], "o", ms=3, alpha=0.6, color=plots.COLOURS[0])
            for limit in (high[column], -high[column]):
                one.plot([n - 0.3, n + 0.3], [limit] * 2, color=plots.BAD, lw=1.2)
        one.set(xticks=range(3), xticklabels=[COMPONENTS[c] for c in columns], ylabel=unit)
    return drawing


POSE_STATISTICS = Experiment(
    "How heads lie in the C-arm",
    PAPER_A,
    "Paper A, supplementary Figure 3.2",
    "The true pose of each patient against the radiological one: turns about the C-arm's axes R, A, S through the CTA's centre, and shifts "
    "of that centre along them.",
    "patients",
    PATIENTS,
    3,
    statistics_items,
    statistics_work,
    statistics_summary,
)
