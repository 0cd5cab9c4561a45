"""Fine-tuning to single patients on a card, in several ways, judged on their real masks; a part of `gpu_training.py`."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_training_parts import Learning, Loop, Patients, asked, fresh_batches, judged, mixed, read_patients

from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.registration.network.batches import Heads, heads_on
from DeepIterRegLib.registration.network.config import TrainSettings, read_settings
from DeepIterRegLib.registration.network.heads import HeadPoints, make_head_points
from DeepIterRegLib.registration.network.model import PoseNetwork
from DeepIterRegLib.registration.network.patient_heads import head_of_points

STARTS, ROTATION_DEG, TRANSLATION_MM = 96, 35.0, 38.0
BATCH, STEPS = 64, 150  # 9,600 images, as `patient.toml` has


@dataclass(frozen=True)
class Way:
    """A way to fine-tune.

    Attributes
    ----------
    name
    about_mean
        The head lies about the mean of its vessels, as it did until November 2026, not about the centre.
    arteries
        The DSA shows all vessels of the CTA, as it did, not only the large veins.
    rate
    as_segmented
        Masks are as sparse as those of our own segmentation.
    synthetic
        Half of each batch is of synthetic heads.
    """

    name: str
    about_mean: bool = False
    arteries: bool = False
    rate: float = 2e-4
    as_segmented: bool = False
    synthetic: bool = False


WAYS = (
    Way("as before", about_mean=True, arteries=True),
    Way("about the centre", arteries=True),
    Way("and large veins only"),
    Way("and masks as sparse as real ones", as_segmented=True),
    Way("and half of the batch synthetic", as_segmented=True, synthetic=True),
)


def tuned(options: argparse.Namespace, device: torch.device, out: Any, network: PoseNetwork | None = None) -> None:
    """Fine-tune to each patient of `tuned*.npz` in each way, as long as there is time; a figure each."""
    from gpu_training import network_on

    network = network or network_on(options, device, "shipped")
    seeds, patients = read_patients(options.patients, device)
    synthetic = heads_on([make_head_points(number) for number in range(2 if options.small else 16)], device)
    longest = 0.0
    for path in sorted(options.patients.glob("tuned*.npz")):
        seed = int(path.stem.removeprefix("tuned"))
        patient = with_starts(patients.one(seeds.index(seed)), 8 if options.small else STARTS, seed)
        for way in WAYS:
            if out.left() < 1.5 * longest:
                out.line(skipped=f"fine-tuning of {seed} {way.name}", reason="time")
                continue
            begin = time.monotonic()
            head = heads_on([patient_head(path, way)], device)
            facts = one_tuned(network, head, synthetic, patient, way, (2, 2) if options.small else (BATCH, STEPS))
            longest = max(longest, time.monotonic() - begin)
            out.line(tuned=seed, way=way.name, seconds=round(time.monotonic() - begin, 1), **facts)


def with_starts(patient: Patients, count: int, seed: int) -> Patients:
    """The patient with many starts off by up to 35 deg and 38 mm on every axis of the detector."""
    rng = np.random.default_rng([seed, 8])
    truth, centre = patient.truth[0].cpu().double().numpy(), patient.cube[0].cpu().double().numpy()
    rotation = pose.euler_deg_to_rotation(rng.uniform(-1, 1, (count, 3)) * ROTATION_DEG) @ truth[:, :3]
    seen = truth[:, :3] @ centre + truth[:, 3] + rng.uniform(-1, 1, (count, 3)) * TRANSLATION_MM
    starts = np.concatenate([rotation, (seen - rotation @ centre)[..., None]], axis=-1)
    return replace(patient, starts=torch.as_tensor(starts[None], dtype=torch.float32, device=patient.truth.device))


def patient_head(path: Path, way: Way) -> HeadPoints:
    """The patient's vessels as a head to train on."""
    with np.load(path) as kept:
        position, vein = kept["position"] / 100.0, kept["vein"]
        if way.about_mean:
            position = position - position.mean(axis=0)
        return head_of_points(
            position,
            kept["radius"].astype(np.float32),
            np.ones_like(vein) if way.arteries else vein,
            float(kept["blood"]),
        )


def one_tuned(
    network: PoseNetwork, head: Heads, synthetic: Heads, patient: Patients, way: Way, size: tuple[int, int]
) -> dict[str, Any]:
    """MPE before and after, on the patient's real mask and on samples of the head that it was not trained on; median and mean, mm."""
    batch, steps = size
    from gpu_training import AS_SEGMENTED

    settings = read_settings(MODELS / "patient.toml")
    if way.as_segmented:
        settings = replace(settings, sampling=replace(settings.sampling, **AS_SEGMENTED))
    apart = TrainSettings()
    if way.as_segmented:
        apart = replace(apart, sampling=replace(apart.sampling, **AS_SEGMENTED))
    network = copy.deepcopy(network)
    held_out = [fresh_batches(head, settings, max(batch, 8), (77,), 10).make(number) for number in range(4)]
    own = fresh_batches(head, settings, batch // 2 if way.synthetic else batch, (5,))
    other = fresh_batches(synthetic, apart, batch // 2, (6,))
    answer: Callable[[], Any] = lambda: asked(network, patient, 1)[1]  # noqa: E731
    start, before, self_before = asked(network, patient)[0], answer(), judged(network, held_out)
    twice_before = asked(network, patient, 2)[1]
    loop = Loop(network, Learning(rate=way.rate))
    for number in range(steps):
        item = own.make(number)
        loop.step(mixed(item, other.make(number)) if way.synthetic else item, number / steps)
    after, self_after, twice_after = answer(), judged(network, held_out), asked(network, patient, 2)[1]
    return {
        "images": batch * steps,
        "start_mm": float(start.median()),
        "before_mm": float(before.median()),
        "after_mm": float(after.median()),
        "before_mean_mm": float(before.mean()),
        "after_mean_mm": float(after.mean()),
        "twice_before_mm": float(twice_before.median()),
        "twice_after_mm": float(twice_after.median()),
        "self_before_mm": self_before["after_median"],
        "self_after_mm": self_after["after_median"],
    }
