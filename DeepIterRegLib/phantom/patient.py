"""A phantom patient: CTA, DSA run and the truth, from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom.anatomy import head_vessels
from DeepIterRegLib.phantom.centrelines import EXTERNAL, TERRITORIES, Centrelines
from DeepIterRegLib.phantom.cta import make_cta, make_grid
from DeepIterRegLib.phantom.head import SPACING_MM, Head, make_head
from DeepIterRegLib.phantom.run import BITS_STORED, Run, make_run
from DeepIterRegLib.phantom.settings import HeadSettings, Injection, Occlusion, PhantomSettings, SkullSettings, View
from DeepIterRegLib.phantom.skull import head_in_run, head_in_scan
from DeepIterRegLib.phantom.tubes import tube_chords, tubes
from DeepIterRegLib.phantom.xray import attenuation_per_mm

# What an occlusion may be in each circulation; what a setting asks for elsewhere becomes P2 or M1.
_POSTERIOR_OCCLUSIONS, _ANTERIOR_OCCLUSIONS = ("none", "P2", "basilar"), ("none", "M1", "M2", "A2")
_CLOT_PLACE, _CLOT_MM = (0.2, 0.8), (5, 15)  # share of the segment before it; length, as clots in stroke have
_CLOT_ENHANCEMENT = 0.08  # what CTA shows of a clot: next to nothing
_COLLATERAL_ENHANCEMENT = (0.3, 0.95)  # CTA is late enough for collaterals to fill what lies beyond
_CRANIAL_DEG = (0, 15)  # AP views look under the skull base: the tube is tilted so that the orbits cover little
_LATERAL_DEG = (-90.0, 90.0)
_SEEN_SHARE = 0.9  # of the injected arteries of the head: an operator takes a field that shows so much
_COARSEST_PX_MM = 0.5  # detectors are read out at least as finely
_CLEAN_CONTRAST = 0.01  # of a clean image, for each mm of vessel


@dataclass(frozen=True)
class Patient:
    """One phantom patient.

    Attributes
    ----------
    cta : Volume
        int16 HU.
    arteries, veins : Volume
        Truth masks (bool) on the CTA's grid. Vessels beyond an occlusion are in them.
    centrelines : Centrelines
        All vessels, RAS mm of the CTA.
    occluded : (N,) bool
        Nodes at and beyond the occlusion.
    run : Run
        The DSA.
    cta_to_carm : (4, 4)
        Truth of this run.
    offset_deg, offset_mm : (3,)
        How the truth differs from the radiological pose: Euler angles about the CTA's centre and shift, C-arm axes.
    """

    seed: int
    settings: PhantomSettings
    cta: Volume
    arteries: Volume
    veins: Volume
    centrelines: Centrelines
    occlusion: Occlusion
    occluded: np.ndarray
    run: Run
    cta_to_carm: np.ndarray
    offset_deg: np.ndarray
    offset_mm: np.ndarray

    @property
    def carm(self) -> CArm:
        """The calibrated view of the run."""
        return self.run.carm

    @cached_property
    def vessels(self) -> Volume:
        """Truth mask of arteries and veins (bool), on the CTA's grid."""
        return self.cta.with_voxels(self.arteries.voxels | self.veins.voxels)


def make_patient(
    seed: int,
    settings: PhantomSettings = PhantomSettings(),  # noqa: B008 (frozen)
    on_progress: Callable[[float], None] | None = None,
) -> Patient:
    """Make a phantom patient; the same seed and settings give the same patient.

    Each part draws from a stream of its own, so that a change in one does not reshuffle the others. Offsets
    are drawn uniformly and never rejected; what is chosen to suit them is the detector's field (`_choose_view`).
    `on_progress` is told the fraction done.
    """
    tell = on_progress or (lambda done: None)
    streams = _streams(seed)
    rng_arteries, rng_veins, _, rng_place, rng_cta, rng_case, rng_offset, rng_view, rng_run = streams
    canonical = head_vessels(rng_arteries, rng_veins)
    head = _head(seed)
    head_to_cta = _placement(rng_place, settings.head)
    vessels = canonical.moved(head_to_cta)

    injection = _pick(rng_case, settings.run.injections, settings.run.injection_weights)
    occlusion = _pick(rng_case, settings.run.occlusions, settings.run.occlusion_weights)
    occlusion, occluded, enhancement = _occlude(vessels, injection, occlusion, rng_case)

    tell(0.25)
    # The scanner and the X-rays meet the same head; only `settings.skull` makes them differ.
    affine, shape = make_grid(head_to_cta, rng_cta, settings.cta)
    scanned = head_in_scan(head, seed, settings.skull)
    cta, arteries, veins = make_cta(vessels, scanned, head_to_cta, affine, shape, enhancement, rng_cta, settings.cta)

    centre = cta.centre_mm
    offset_deg = rng_offset.uniform(-1, 1, 3) * settings.offset.rotation_deg
    offset_mm = rng_offset.uniform(-1, 1, 3) * settings.offset.translation_mm
    truth = pose.offset_about(pose.radiological(centre), centre, pose.euler_deg_to_rotation(offset_deg), offset_mm)
    carm = _choose_view(vessels, injection, truth, rng_view, settings)

    tell(0.58)
    to_index = _to_head_index(head, head_to_cta)
    run = make_run(
        vessels,
        _attenuation_in_run(seed, settings.skull),
        to_index,
        carm,
        truth,
        injection,
        occluded,
        rng_run,
        settings.run,
        settings.skull.hardening,
    )
    return Patient(
        seed, settings, cta, arteries, veins, vessels, occlusion, occluded, run, truth, offset_deg, offset_mm
    )


def second_run(
    patient: Patient,
    view: View | None = None,
    *,
    seed: int = 0,
    between_runs_deg: float = 0.0,
    between_runs_mm: float = 0.0,
) -> Patient:
    """The same patient, with another run of the same injected artery in place of the first; the CTA is shared, not made again.

    Angles, distances, detector field, time of injection, motion within the run and noise are its own.

    Parameters
    ----------
    view
        `ap` or `lateral`; the other one than the patient's run if absent.
    seed
        Which of the patient's further runs.
    between_runs_deg, between_runs_mm
        How far the head has turned (about the CTA's centre) and shifted since the first run, in a direction drawn by seed.
        At 0 both runs have one truth.
    """
    streams = _streams(patient.seed)
    head_to_cta = _placement(streams[3], patient.settings.head)
    rng_view, rng_run, rng_between = (
        np.random.default_rng(s) for s in np.random.SeedSequence(patient.seed, spawn_key=(len(streams), seed)).spawn(3)
    )
    direction = rng_between.normal(size=(2, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    truth = pose.offset_about(
        patient.cta_to_carm,
        patient.cta.centre_mm,
        pose.so3_exp(np.radians(between_runs_deg) * direction[0]),
        between_runs_mm * direction[1],
    )
    if view is None:
        view = "ap" if abs(patient.carm.beam_axis[0]) > abs(patient.carm.beam_axis[1]) else "lateral"
    settings = replace(patient.settings, view=replace(patient.settings.view, views=(view,)))
    carm = _choose_view(patient.centrelines, patient.run.injection, truth, rng_view, settings)
    run = make_run(
        patient.centrelines,
        _attenuation_in_run(patient.seed, settings.skull),
        _to_head_index(_head(patient.seed), head_to_cta),
        carm,
        truth,
        patient.run.injection,
        patient.occluded,
        rng_run,
        settings.run,
        settings.skull.hardening,
    )
    return replace(patient, settings=settings, run=run, cta_to_carm=truth)


@lru_cache(maxsize=1)
def _head(seed: int) -> Head:
    """The patient's head; kept for the patient's further runs, as painting it takes seconds."""
    return make_head(_streams(seed)[2])


@lru_cache(maxsize=1)
def _attenuation_in_run(seed: int, skull: SkullSettings) -> np.ndarray:
    """What the X-rays of the patient's runs meet, per mm (x, y, z); kept like the head."""
    return attenuation_per_mm(head_in_run(_head(seed), seed, skull).hu)


def _streams(seed: int) -> list[np.random.Generator]:
    """One stream for each part of a patient: arteries, veins, head, its place, CTA, case, offset, view, run."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(9)]


def _to_head_index(head: Head, head_to_cta: np.ndarray) -> np.ndarray:
    """RAS mm of the CTA to indices of the head's grid (4, 4)."""
    cta_to_head = np.linalg.inv(head_to_cta)
    cta_to_head[:3, 3] -= head.origin_mm
    index: np.ndarray = np.diag([1 / SPACING_MM] * 3 + [1.0]) @ cta_to_head
    return index


def _pick(rng: np.random.Generator, options: tuple[Any, ...], weights: tuple[float, ...]) -> Any:
    return options[rng.choice(len(options), p=np.array(weights) / sum(weights))]


def _placement(rng: np.random.Generator, settings: HeadSettings) -> np.ndarray:
    """Canonical frame to RAS of the CTA: each axis stretched, the head tilted and shifted in the scanner."""
    scale = rng.uniform(*settings.scale, 3)
    rotation = pose.euler_deg_to_rotation(rng.uniform(-1, 1, 3) * settings.tilt_deg)
    placed = np.eye(4)
    placed[:3, :3] = rotation * scale
    placed[:3, 3] = rng.uniform(-1, 1, 3) * settings.shift_mm
    return placed


def _occlude(
    vessels: Centrelines, injection: Injection, occlusion: Occlusion, rng: np.random.Generator
) -> tuple[Occlusion, np.ndarray, np.ndarray]:
    """The occlusion that fits the injected side, its nodes (N,) bool, and the CTA's enhancement (N,): a clot, then collaterals."""
    none = np.zeros(len(vessels.parent), dtype=bool)
    full = np.ones(len(vessels.parent))
    if injection == "vertebrobasilar":
        occlusion = occlusion if occlusion in _POSTERIOR_OCCLUSIONS else "P2"
        names = ["basilar"] if occlusion == "basilar" else [f"{side}_{occlusion}" for side in ("left", "right")]
    else:
        occlusion = occlusion if occlusion in _ANTERIOR_OCCLUSIONS else "M1"
        names = [f"{injection.split('_')[0]}_{occlusion}"]
    position, clot_mm, collateral = (rng.uniform(*each) for each in (_CLOT_PLACE, _CLOT_MM, _COLLATERAL_ENHANCEMENT))
    candidates = np.flatnonzero(vessels.named(names[int(rng.integers(len(names)))]))
    if occlusion == "none" or injection == "everything" or not len(candidates):
        return "none", none, full
    node = int(candidates[int(position * len(candidates))])
    occluded = vessels.downstream(node)
    distance = vessels.from_root(vessels.length_mm)
    full[occluded] = collateral
    full[occluded & (distance < distance[node] + clot_mm)] = _CLOT_ENHANCEMENT
    return occlusion, occluded, full


def _choose_view(
    vessels: Centrelines, injection: Injection, truth: np.ndarray, rng: np.random.Generator, settings: PhantomSettings
) -> CArm:
    """The C-arm: angles, distances, and a detector field in which the injected tree lies, as an operator would choose it.

    Any of the fields that show at least nine tenths of the injected intracranial arteries at the true pose may be
    taken; if none does, the largest. The offsets themselves are not touched.
    """
    view = settings.view
    kind = view.views[int(rng.integers(len(view.views)))]
    primary, secondary, side = (
        rng.uniform(-view.angle_deg, view.angle_deg),
        rng.uniform(-view.angle_deg, view.angle_deg),
        rng.choice(_LATERAL_DEG),
    )
    cranial = rng.uniform(*_CRANIAL_DEG)
    primary, secondary = (primary, secondary + cranial) if kind == "ap" else (side + primary, secondary)
    sid, sod = rng.uniform(*view.sid_mm), rng.uniform(*view.sod_mm)
    wanted_columns = int(rng.choice(view.matrices))
    territory = (
        ~vessels.vein & (vessels.territory != EXTERNAL)
        if injection == "everything"
        else vessels.territory == TERRITORIES.index(injection)
    )
    # What lies in the neck does not matter to the operator.
    neck = np.char.find(np.array(vessels.segments), "cervical") >= 0
    tree = vessels.points_mm[
        territory & ~neck[vessels.segment] & ~vessels.named("vertebral") & ~vessels.named("other_vertebral")
    ]

    def carm(field: tuple[float, float]) -> CArm:
        columns = wanted_columns if field[1] / wanted_columns <= _COARSEST_PX_MM else max(view.matrices)
        spacing = field[1] / columns
        return CArm.from_angles(
            primary,
            secondary,
            sid_mm=sid,
            sod_mm=sod,
            rows=round(field[0] / spacing),
            columns=columns,
            pixel_spacing_mm=(spacing, spacing),
        )

    def seen(candidate: CArm) -> float:
        px = candidate.project(tree, truth)
        return float(np.mean(np.all((px >= 0) & (px <= [candidate.columns - 1, candidate.rows - 1]), axis=1)))

    fields = [carm(f) for f in view.field_mm]
    fitting = [c for c in fields if seen(c) >= _SEEN_SHARE]
    chance = rng.random()
    return (
        fitting[int(chance * len(fitting))]
        if fitting
        else max(fields, key=lambda c: (seen(c), c.rows * c.pixel_spacing_mm[0]))
    )


def clean_images(patient: Patient) -> Angiogram:
    """Paper B's setting: one frame that shows every vessel in the CTA's field at the true pose, without noise, motion or bone.

    Contrast is negative; unit: mm of vessel along the ray, times a hundredth.
    """
    to_index = np.linalg.inv(patient.cta.affine)
    index = pose.transform(to_index, patient.centrelines.points_mm)[:, ::-1]
    inside = np.all((index >= 0) & (index <= np.array(patient.cta.voxels.shape) - 1), axis=1)
    shapes = tubes(patient.centrelines, inside)
    carm = patient.carm
    depth = tube_chords(shapes, carm, patient.cta_to_carm).image(
        np.full(len(shapes.node), _CLEAN_CONTRAST), carm.rows, carm.columns
    )
    return Angiogram(-depth[None], carm, np.zeros(1), np.ones(depth.shape, dtype=bool))


def truth_record(patient: Patient, *others: Patient) -> dict[str, Any]:
    """What `truth.json` holds: plain numbers and strings. Further runs of the patient are listed in `furtherRuns`."""
    return {
        "seed": patient.seed,
        "ctaToCarm": patient.cta_to_carm.tolist(),
        "offsetDeg": patient.offset_deg.tolist(),
        "offsetMm": patient.offset_mm.tolist(),
        "injection": patient.run.injection,
        "occlusion": patient.occlusion,
        "maskFrames": list(patient.run.mask_frames),
        "carm": asdict(patient.carm),
        "settings": asdict(patient.settings),
        **(
            {
                "furtherRuns": [
                    {
                        "ctaToCarm": other.cta_to_carm.tolist(),
                        "maskFrames": list(other.run.mask_frames),
                        "carm": asdict(other.carm),
                    }
                    for other in others
                ]
            }
            if others
            else {}
        ),
    }


def write_patient(patient: Patient, out_dir: str | Path, *others: Patient) -> None:
    """Write cta.nii.gz, dsa.dcm, arteries.nii.gz, veins.nii.gz, truth.json and truth.tfm into a folder, made if needed.

    `others` are further runs of the patient, as from `second_run`: dsa2.dcm, dsa3.dcm and so on.
    """
    from DeepIterRegLib.geometry.pose_files import write_tfm
    from DeepIterRegLib.images.dicom import write_xa
    from DeepIterRegLib.images.files import save_volume

    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    save_volume(patient.cta, out / "cta.nii.gz")
    save_volume(patient.arteries, out / "arteries.nii.gz")
    save_volume(patient.veins, out / "veins.nii.gz")
    for number, shown in enumerate((patient, *others), 1):
        write_xa(
            out / f"dsa{'' if number == 1 else number}.dcm",
            shown.run.frames,
            shown.carm,
            shown.run.frame_times_s,
            shown.run.mask_frames,
            bits_stored=BITS_STORED,
        )
    write_tfm(out / "truth.tfm", patient.cta_to_carm)
    (out / "truth.json").write_text(json.dumps(truth_record(patient, *others), indent=2) + "\n", encoding="utf-8")
