"""What `gpu_training.py` is built of: heads made beside the training, patients with real masks, the loop, weights in parts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from DeepIterRegLib.registration.network.batches import Batches, Heads, Item, heads_on
from DeepIterRegLib.registration.network.heads import HeadPoints, make_head_points
from DeepIterRegLib.registration.network.loss import image_loss, pose_loss, projection_error_mm
from DeepIterRegLib.registration.network.model import PoseNetwork, corrected
from DeepIterRegLib.registration.network.schedule import one_cycle
from DeepIterRegLib.registration.network.view import coverage
from DeepIterRegLib.rendering.splat_clouds import splat_clouds

PART_BYTES = 14_000_000  # files of up to 16 MiB come back from the card's machine
PIECES = 1700  # more than any synthetic head has
ROOM = 32_000  # points of a synthetic head
CUBE_MM = 50.0

Record = Callable[..., None]


# -- heads -----------------------------------------------------------------------------------------------


class GrowingHeads:
    """Synthetic heads made by other processes while the training goes on; room on the device for `most`."""

    def __init__(self, device: torch.device, processes: int, most: int, first: int = 0) -> None:
        self.device, self.most, self.count = device, most, 0
        self._numbers: Iterator[int] = itertools.count(first)
        self.processes_failed = False
        self._pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
        self._waiting: list[Future[HeadPoints]] = []
        self._room: Heads | None = None
        self._ahead = 3 * processes
        self.take()

    def take(self) -> None:
        """Put what was made since on the device, and order more."""
        done = [future for future in self._waiting if future.done()]
        self._waiting = [future for future in self._waiting if future not in done]
        for future in done:
            try:
                self._put(future.result())
            except Exception as error:  # a training goes on with the heads that are there
                print(f"A process that makes heads failed: {error!r}", flush=True)
                self.processes_failed = True
        while (
            not self.processes_failed
            and len(self._waiting) < self._ahead
            and self.count + len(self._waiting) < self.most
        ):
            self._waiting.append(self._pool.submit(make_head_points, next(self._numbers)))

    def wait_for(self, count: int) -> None:
        """Until so many are there."""
        while self.count < min(count, self.most):
            if self.processes_failed:
                self._put(make_head_points(next(self._numbers)))
                continue
            self.take()
            time.sleep(0.02)

    def _put(self, head: HeadPoints) -> None:
        if len(head.volume_mm3) > ROOM or head.piece.max() >= PIECES or self.count >= self.most:
            return
        one = heads_on([head], self.device, ROOM)
        if self._room is None:
            self._room = Heads(
                **{
                    f.name: torch.empty(
                        (self.most, *getattr(one, f.name).shape[1:]),
                        dtype=getattr(one, f.name).dtype,
                        device=self.device,
                    )
                    for f in fields(Heads)
                    if f.name != "pieces"
                },
                pieces=PIECES,
            )
        for f in fields(Heads):
            if f.name != "pieces":
                getattr(self._room, f.name)[self.count] = getattr(one, f.name)[0]
        self.count += 1

    @property
    def heads(self) -> Heads:
        """Those that are there."""
        assert self._room is not None
        return Heads(
            **{f.name: getattr(self._room, f.name)[: self.count] for f in fields(Heads) if f.name != "pieces"},
            pieces=PIECES,
        )

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


# -- patients --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patients:
    """Phantom patients with veins of our own segmentation of CTA and DSA, K starts each.

    points (N, 3, P) about the middle of the CTA's veins, blood (N,) mm^3 a point, channel (N, rows, rows), starts (N, K, 3, 4),
    truth (N, 3, 4), cube (N, 3) the head's centre, distances (N, 2) SID and SOD.
    """

    points: Tensor
    blood: Tensor
    channel: Tensor
    starts: Tensor
    truth: Tensor
    cube: Tensor
    distances: Tensor

    def one(self, number: int) -> Patients:
        """Patient `number` alone."""
        return Patients(**{f.name: getattr(self, f.name)[number : number + 1] for f in fields(self)})


def read_patients(folder: Path, device: torch.device, most: int | None = None) -> tuple[list[int], Patients]:
    """Seeds and patients in a folder, written by `gpu_training_data.py`; at most so many."""
    found: dict[str, list[np.ndarray]] = {f.name: [] for f in fields(Patients)}
    seeds = []
    for path in sorted(folder.glob("patient*.npz"))[:most]:
        with np.load(path) as one:
            points = np.zeros((3, 40_000), dtype=np.float32)
            placed = one["points"].T / 100.0
            points[:, : placed.shape[1]] = placed
            blood = np.zeros(40_000, dtype=np.float32)
            blood[: placed.shape[1]] = one["blood"]
            values = {"points": points, "blood": blood}
            values |= {
                name: one[name].astype(np.float32) for name in ("channel", "starts", "truth", "cube", "distances")
            }
        seeds.append(int(path.stem.removeprefix("patient")))
        for name, value in values.items():
            found[name].append(value)
    return seeds, Patients(**{name: torch.as_tensor(np.stack(values), device=device) for name, values in found.items()})


def mpe_mm(cameras: Tensor, truth: Tensor, cube: Tensor, sid_mm: Tensor) -> Tensor:
    """MPE (B,) of cameras (B, 3, 4), as `geometry.mpe_mm`."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=cameras.device)] * 3) * CUBE_MM
    corners = (cube[:, None] + signs).transpose(1, 2)

    def project(camera: Tensor) -> Tensor:
        seen = camera[:, :, :3] @ corners + camera[:, :, 3:]
        return seen[:, :2] / seen[:, 2:].clamp_min(1.0) * sid_mm[:, None, None]

    return (project(cameras) - project(truth)).norm(dim=1).mean(dim=1)


def asked(network: PoseNetwork, patients: Patients, rounds: int = 1) -> tuple[Tensor, Tensor]:
    """MPE (N, K) before, and after the network was asked so many times, each as it is asked in use."""
    settings = network.settings
    count = patients.starts.shape[1]
    network.eval()
    before, after = [], []
    with torch.no_grad():
        for n in range(len(patients.truth)):
            one = patients.one(n)
            truth, cube = one.truth.expand(count, -1, -1), one.cube.expand(count, -1)
            sid, focal = one.distances[:, 0].expand(count), (one.distances[:, 1] / settings.pixel_mm).expand(count)
            cameras = one.starts[0]
            before.append(mpe_mm(cameras, truth, cube, sid))
            for _ in range(rounds):
                images = splat_clouds(
                    cameras, one.points.expand(count, -1, -1), one.blood.expand(count, -1), focal, settings.rows
                )
                together = torch.stack([coverage(images), one.channel.expand(count, -1, -1)], dim=1)
                cameras = corrected(cameras, network(together.contiguous(memory_format=torch.channels_last)).float())
            after.append(mpe_mm(cameras, truth, cube, sid))
    network.train()
    return torch.stack(before), torch.stack(after)


def judged(network: PoseNetwork, batches: list[Item]) -> dict[str, float]:
    """Mean and median projection error, mm, before and after one answer, over batches of samples."""
    network.eval()
    before, after = [], []
    with torch.no_grad():
        for images, start, truth, _, _, distances in batches:
            answer = corrected(start, network(images.contiguous(memory_format=torch.channels_last)).float())
            before.append(projection_error_mm(start, truth, distances[:, 0]))
            after.append(projection_error_mm(answer, truth, distances[:, 0]))
    network.train()
    b, a = torch.cat(before), torch.cat(after)
    return {
        "before_mean": float(b.mean()),
        "after_mean": float(a.mean()),
        "before_median": float(b.median()),
        "after_median": float(a.median()),
    }


# -- the loop --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """How the loop learns; names as in `LearningSettings`."""

    rate: float = 1.5e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    pose_weight: float = 0.01
    lever_mm: float = 100.0
    dice_pool: int = 4
    frozen_statistics: bool = False


def loss_of(network: PoseNetwork, item: Item, learning: Learning) -> Tensor:
    """Loss of a batch (A eq. 9), its network in bfloat16 on a card."""
    images, start, truth, points, weights, distances = item
    settings = network.settings
    with torch.autocast(images.device.type, torch.bfloat16):
        corrections = network(images.contiguous(memory_format=torch.channels_last))
    predicted = torch.as_tensor(corrected(start, corrections.float()))
    focal, clouds = distances[:, 1] / settings.pixel_mm, points.transpose(1, 2)
    with torch.no_grad():
        fixed = splat_clouds(truth, clouds, weights, focal, settings.rows)
    moving = splat_clouds(predicted, clouds, weights, focal, settings.rows)
    dice = image_loss(moving, fixed, learning.dice_pool).mean()
    return dice + learning.pose_weight * pose_loss(predicted, truth, learning.lever_mm).mean()


class Loop:
    """Steps of a training, its rate by the share of it that is over."""

    def __init__(self, network: PoseNetwork, learning: Learning) -> None:
        self.network, self.learning = network, learning
        on_card = next(network.parameters()).device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            network.parameters(), learning.rate, weight_decay=learning.weight_decay, fused=on_card
        )
        network.train()

    def step(self, item: Item, progress: float) -> Tensor:
        """One step; its loss, not waited for."""
        if self.learning.frozen_statistics:
            for module in self.network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning.rate * one_cycle(progress)
        loss = loss_of(self.network, item, self.learning)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.learning.clip, foreach=True)
        for parameter in self.network.parameters():
            if parameter.grad is not None:  # one sample that is no number must not end a training of minutes
                torch.nan_to_num_(parameter.grad, 0.0, 0.0, 0.0)
        self.optimiser.step()
        return loss.detach()


def mixed(one: Item, other: Item) -> Item:
    """Two batches as one."""
    a, b, c, d, e, f = (torch.cat(pair) for pair in zip(one, other, strict=True))
    return a, b, c, d, e, f


# -- weights ---------------------------------------------------------------------------------------------


def save_parts(network: PoseNetwork, folder: Path, facts: dict[str, Any]) -> None:
    """Weights as `save_network` writes them, cut into files that come back from the card's machine; whole or not at all."""
    from DeepIterRegLib.registration.network.weights import save_network

    scratch = Path(os.environ.get("TMPDIR", "/tmp"), f"weights{os.getpid()}")
    scratch.mkdir(exist_ok=True)
    whole = scratch / "initial_pose.safetensors"
    save_network(network, whole, facts)
    folder.mkdir(parents=True, exist_ok=True)
    content = whole.read_bytes()
    written = []
    for number in range(math.ceil(len(content) / PART_BYTES)):
        beside = folder / f"part{number}.tmp"
        beside.write_bytes(content[number * PART_BYTES : (number + 1) * PART_BYTES])
        written.append((beside, folder / f"initial_pose.safetensors.{number}"))
    beside = folder / "card.tmp"
    beside.write_bytes(whole.with_suffix(".json").read_bytes())
    for before, after in [*written, (beside, folder / "initial_pose.json")]:
        before.replace(after)


def join_parts(folder: Path, path: Path) -> None:
    """The weights of `save_parts` as one file with its card beside it.

    Raises
    ------
    SystemExit
        The parts are not those of the card.
    """
    parts = sorted(folder.glob("initial_pose.safetensors.*"), key=lambda part: int(part.suffix[1:]))
    content = b"".join(part.read_bytes() for part in parts)
    card = (folder / "initial_pose.json").read_bytes()
    if hashlib.sha256(content).hexdigest() != json.loads(card)["sha256"]:
        raise SystemExit(f"The {len(parts)} parts in {folder} are not those of their card: SHA-256 differs.")
    path.write_bytes(content)
    path.with_suffix(".json").write_bytes(card)


def fresh_batches(heads: Heads, settings: Any, batch: int, seeds: tuple[int, ...], n_points: int = 3000) -> Batches:
    """Batches of a training's settings, as many as one likes."""
    return Batches(heads, settings.network, settings.sampling, n_points, batch, seeds, 0, 1)
