"""A phantom patient: CTA, DSA run and the truth, from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.progress import between
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom.anatomy import head_vessels
from DeepIterRegLib.phantom.centrelines import Centrelines
from DeepIterRegLib.phantom.cta import make_cta, make_grid
from DeepIterRegLib.phantom.head import SPACING_MM, Head, make_head
from DeepIterRegLib.phantom.run import BITS_STORED, Run, make_run
from DeepIterRegLib.phantom.settings import HeadSettings, Injection, Occlusion, PhantomSettings, SkullSettings, View
from DeepIterRegLib.phantom.skull import head_in_run, head_in_scan
from DeepIterRegLib.phantom.tubes import tube_chords, tubes
from DeepIterRegLib.phantom.view import choose_view
from DeepIterRegLib.phantom.xray import attenuation_per_mm

# What an occlusion may be in each circulation; what a setting asks for elsewhere becomes P2 or M1.
_POSTERIOR_OCCLUSIONS, _ANTERIOR_OCCLUSIONS = ("none", "P2", "basilar"), ("none", "M1", "M2", "A2")
_CLOT_PLACE, _CLOT_MM = (0.2, 0.8), (5, 15)  # share of the segment before it; length, as clots in stroke have
_CLOT_ENHANCEMENT = 0.08  # what CTA shows of a clot: next to nothing
_COLLATERAL_ENHANCEMENT = (0.3, 0.95)  # CTA is late enough for collaterals to fill what lies beyond
_STREAMS = 9  # parts of a patient that draw from a stream of their own
SECOND_RUNS, PROCEDURE = _STREAMS, _STREAMS + 1  # what draws beside them: keys that none of them has
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
    are drawn uniformly and never rejected; what is chosen to suit them is the detector's field (`choose_view`).
    `on_progress` is told the fraction done.
    """
    tell = on_progress or (lambda done: None)
    streams = _streams(seed)
    rng_arteries, rng_veins, _, rng_place, rng_cta, rng_case, rng_offset, rng_view, rng_run = streams
    canonical = head_vessels(rng_arteries, rng_veins)
    tell(0.08)
    head = _head(seed)
    head_to_cta = _placement(rng_place, settings.head)
    vessels = canonical.moved(head_to_cta)

    injection = _pick(rng_case, settings.run.injections, settings.run.injection_weights)
    occlusion = _pick(rng_case, settings.run.occlusions, settings.run.occlusion_weights)
    occlusion, occluded, enhancement = _occlude(vessels, injection, occlusion, rng_case)

    tell(0.27)
    # The scanner and the X-rays meet the same head; only `settings.skull` makes them differ.
    affine, shape = make_grid(head_to_cta, rng_cta, settings.cta)
    scanned = head_in_scan(head, seed, settings.skull)
    cta, arteries, veins = make_cta(vessels, scanned, head_to_cta, affine, shape, enhancement, rng_cta, settings.cta)

    centre = cta.centre_mm
    offset_deg = rng_offset.uniform(-1, 1, 3) * settings.offset.rotation_deg
    offset_mm = rng_offset.uniform(-1, 1, 3) * settings.offset.translation_mm
    truth = pose.offset_about(pose.radiological(centre), centre, pose.euler_deg_to_rotation(offset_deg), offset_mm)
    carm = choose_view(vessels, injection, truth, rng_view, settings)

    tell(0.5)
    run = run_of_head(
        *(seed, settings, vessels, carm, truth, injection, occluded, rng_run),
        on_progress=between(tell, 0.5, 1.0),
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
    rng_view, rng_run, rng_between = further_streams(patient.seed, (SECOND_RUNS, seed), 3)
    truth = moved_head(patient.cta_to_carm, patient.cta.centre_mm, between_runs_deg, between_runs_mm, rng_between)
    if view is None:
        view = "ap" if abs(patient.carm.beam_axis[0]) > abs(patient.carm.beam_axis[1]) else "lateral"
    settings = replace(patient.settings, view=replace(patient.settings.view, views=(view,)))
    carm = choose_view(patient.centrelines, patient.run.injection, truth, rng_view, settings)
    run = run_of_head(
        patient.seed,
        settings,
        patient.centrelines,
        carm,
        truth,
        patient.run.injection,
        patient.occluded,
        rng_run,
    )
    return replace(patient, settings=settings, run=run, cta_to_carm=truth)


def moved_head(
    cta_to_carm: np.ndarray, centre_mm: np.ndarray, turn_deg: float, shift_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Pose (4, 4) after a turn about a centre (3,), RAS mm of the CTA, and a shift, each in a direction drawn."""
    direction = rng.normal(size=(2, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return pose.offset_about(
        cta_to_carm, centre_mm, pose.so3_exp(np.radians(turn_deg) * direction[0]), shift_mm * direction[1]
    )


def run_of_head(
    seed: int,
    settings: PhantomSettings,
    vessels: Centrelines,
    carm: CArm,
    cta_to_carm: np.ndarray,
    injection: Injection,
    occluded: np.ndarray,
    rng: np.random.Generator,
    on_progress: Callable[[float], None] = lambda done: None,
) -> Run:
    """A run of the head of a seed, as `make_run` takes it; its vessels are in the CTA's frame."""
    head_to_cta = _placement(_streams(seed)[3], settings.head)
    return make_run(
        vessels,
        _attenuation_in_run(seed, settings.skull),
        _to_head_index(_head(seed), head_to_cta),
        carm,
        cta_to_carm,
        injection,
        occluded,
        rng,
        settings.run,
        settings.skull.hardening,
        on_progress,
    )


def further_streams(seed: int, key: tuple[int, ...], count: int) -> list[np.random.Generator]:
    """Streams for what is drawn beside the patient of a seed: SECOND_RUNS or PROCEDURE and a number make a key."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed, spawn_key=key).spawn(count)]


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
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(_STREAMS)]


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


def write_patient(
    patient: Patient, out_dir: str | Path, *others: Patient, on_progress: Callable[[float], None] = lambda done: None
) -> None:
    """Write cta.nii.gz, dsa.dcm, arteries.nii.gz, veins.nii.gz, truth.json and truth.tfm into a folder, made if needed.

    `others` are further runs of the patient, as from `second_run`: dsa2.dcm, dsa3.dcm and so on.
    """
    from DeepIterRegLib.geometry.pose_files import write_tfm
    from DeepIterRegLib.images.dicom import write_xa

    out = Path(out_dir)
    write_volumes(patient, out)
    on_progress(0.8)  # they are packed, the runs are not
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


def write_volumes(patient: Patient, out: Path) -> None:
    """Write cta.nii.gz, arteries.nii.gz and veins.nii.gz into a folder, made if needed."""
    from DeepIterRegLib.images.files import save_volume

    out.mkdir(parents=True, exist_ok=True)
    save_volume(patient.cta, out / "cta.nii.gz")
    save_volume(patient.arteries, out / "arteries.nii.gz")
    save_volume(patient.veins, out / "veins.nii.gz")
