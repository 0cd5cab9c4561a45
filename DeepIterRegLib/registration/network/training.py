"""Training of the initial pose network on samples made on the fly (A 3.1.3), with Lightning."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from DeepIterRegLib.common.atomic_output import disk_faults, output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.scratch import clear_leftovers
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.work_folder import AFTER_FULL, work_folder
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.network.batches import Batches, Heads, Item, heads_on
from DeepIterRegLib.registration.network.config import LearningSettings, TrainSettings
from DeepIterRegLib.registration.network.curves import draw_curves
from DeepIterRegLib.registration.network.heads import head_file, load_head, make_head_points, save_head
from DeepIterRegLib.registration.network.loss import image_loss, pose_loss, projection_error_mm
from DeepIterRegLib.registration.network.model import PoseNetwork, corrected
from DeepIterRegLib.registration.network.patient_heads import head_of_patient, read_patient
from DeepIterRegLib.registration.network.samples import make_sample
from DeepIterRegLib.registration.network.schedule import cycle_by_time
from DeepIterRegLib.registration.network.weights import load_network, save_network
from DeepIterRegLib.registration.result import content_hash, file_hash
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.rendering.splat_clouds import splat_clouds

CHECKPOINT = "last.ckpt"
SETTINGS = "settings.json"
WEIGHTS = "initial_pose.safetensors"
# Heads that only judge: numbers from here on, never trained on.
JUDGING = 1_000_000


class Samples(Dataset[Item]):
    """Samples number `first` and on. The same number and seed give the same sample, in whatever process.

    An item is `Sample`'s images, start, truth, points and weights, and (SID, SOD).
    """

    def __init__(self, settings: TrainSettings, heads: Path, numbers: range, first: int, count: int) -> None:
        self.settings, self.heads, self.numbers = settings, heads, numbers
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Item:
        if index >= self.count:
            raise IndexError(index)
        settings = self.settings
        rng = np.random.default_rng([settings.training.seed, self.numbers.start, self.first + index])
        head = _cached_head(head_file(self.heads, int(rng.choice(np.asarray(self.numbers)))))
        sample = make_sample(head, rng, settings.network, settings.sampling, settings.training.loss_points)
        distances = torch.tensor([sample.view.sid_mm, sample.view.sod_mm], dtype=torch.float32)
        return sample.images, sample.start, sample.truth, sample.points, sample.weights, distances


_cached_head = lru_cache(maxsize=512)(load_head)


class Training(lightning.LightningModule):
    """Network, loss, optimiser, and the samples of each epoch."""

    def __init__(self, settings: TrainSettings, heads: Path) -> None:
        super().__init__()
        self.settings, self.heads = settings, heads
        self.network = PoseNetwork(settings.network)
        if settings.training.start_from:
            start = load_network(Path(settings.training.start_from))
            self.network.load_state_dict(start.state_dict())
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._on_card: dict[range, Heads] = {}

    # -- data --------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Item] | Batches:
        training = self.settings.training
        count = training.batch * training.batches
        numbers = range(1 if training.patient else training.heads)
        return self._loader(numbers, self.current_epoch * count, count)

    def val_dataloader(self) -> DataLoader[Item] | Batches:
        training = self.settings.training
        # A patient is one head: there it is judged by other samples of it.
        judging = range(JUDGING, JUDGING + judging_heads(training.heads)) if not training.patient else range(1)
        return self._loader(judging, 0 if not training.patient else JUDGING, training.judged)

    def _loader(self, numbers: range, first: int, count: int) -> DataLoader[Item] | Batches:
        training = self.settings.training
        if self.device.type == "cuda":
            return self._made_on_card(numbers, first, count)
        return DataLoader(
            Samples(self.settings, self.heads, numbers, first, count),
            batch_size=training.batch,
            num_workers=training.workers,
            worker_init_fn=_one_thread,
            # Spawned: numba's threads do not survive a fork.
            multiprocessing_context="spawn" if training.workers else None,
        )

    def _made_on_card(self, numbers: range, first: int, count: int) -> Batches:
        """As many samples in whole batches, made on the card: processes that make them one by one do not keep up with it."""
        settings, training = self.settings, self.settings.training
        if numbers not in self._on_card:
            self._on_card[numbers] = heads_on([load_head(head_file(self.heads, n)) for n in numbers], self.device)
        size = min(training.batch, count)
        return Batches(
            self._on_card[numbers],
            settings.network,
            settings.sampling,
            training.loss_points,
            size,
            seeds=(training.seed, numbers.start, self.global_rank),
            first=first // size,
            count=-(-count // (size * self.trainer.world_size)),
        )

    # -- steps -------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        # What dropout draws depends on the epoch alone, not on where the training was interrupted.
        torch.manual_seed(self.settings.training.seed + 1000 * self.current_epoch + self.global_rank)

    def training_step(self, batch: Item, index: int) -> Tensor:
        images, start, truth, points, weights, distances = batch
        predicted = self._predicted(images, start)
        dice, apart_mm = self._losses(predicted, truth, points, weights, distances)
        loss = dice + self.settings.training.pose_weight * apart_mm
        self.log_dict({"loss": loss, "dice": dice, "pose": apart_mm}, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Item, index: int) -> None:
        images, start, truth, points, weights, distances = batch
        predicted = self._predicted(images, start)
        dice, apart_mm = self._losses(predicted, truth, points, weights, distances)
        after = projection_error_mm(predicted, truth, distances[:, 0])
        before = projection_error_mm(start, truth, distances[:, 0])
        loss = dice + self.settings.training.pose_weight * apart_mm
        self.log_dict(
            {"val_loss": loss, "val_dice": dice, "val_pose": apart_mm, "val_mpe_mm": after.mean()},
            prog_bar=True,
            batch_size=len(images),
            sync_dist=True,
        )
        self.log("val_mpe_before_mm", before.mean(), batch_size=len(images), sync_dist=True)

    def _predicted(self, images: Tensor, start: Tensor) -> Tensor:
        corrections = self.network(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast(start.device.type, enabled=False):  # whose products of matrices would round the pose
            return torch.as_tensor(corrected(start, corrections.float()))

    def _losses(
        self, predicted: Tensor, truth: Tensor, points: Tensor, weights: Tensor, distances: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means over the batch of Dice loss and pose loss (mm)."""
        training, network = self.settings.training, self.settings.network
        with torch.autocast(predicted.device.type, enabled=False):
            focal_px = distances[:, 1] / network.pixel_mm
            clouds = points.transpose(1, 2)
            moving = splat_clouds(predicted, clouds, weights, focal_px, network.rows)
            with torch.no_grad():
                fixed = splat_clouds(truth, clouds, weights, focal_px, network.rows)
            dice = image_loss(moving, fixed, training.dice_pool)
            return dice.mean(), pose_loss(predicted, truth, training.lever_mm).mean()

    # -- optimiser ---------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        training = self.settings.training
        optimiser = torch.optim.AdamW(
            self.parameters(), training.rate, weight_decay=training.weight_decay, fused=self.device.type == "cuda"
        )
        if training.schedule == "constant":
            return optimiser
        steps = int(self.trainer.estimated_stepping_batches)
        schedule: torch.optim.lr_scheduler.LRScheduler
        timers = [each for each in getattr(self.trainer, "callbacks", []) if isinstance(each, Timer)]
        if training.minutes and timers:
            # A cycle of all steps would be cut off where the rate is still high.
            factor = cycle_by_time(steps, 60 * training.minutes, lambda: timers[0].time_elapsed())
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, steps, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _one_thread(worker: int) -> None:
    import numba

    # The processes share the cores with the training itself.
    torch.set_num_threads(1)
    numba.set_num_threads(1)


def judging_heads(heads: int) -> int:
    """How many heads judge beside so many that are trained on."""
    return max(1, heads // 8)


# -- the whole run ---------------------------------------------------------------------------------------


def train(settings: TrainSettings, folder: Path, on_progress: Progress | None = None, *, quiet: bool = False) -> Path:
    """Train, or go on where an interrupted training in `folder` stopped; the file of the weights.

    Writes into `folder`: settings.json, heads/, logs (CSV), curves.png, `CHECKPOINT`, `WEIGHTS` and its card (.json, see
    `weights`). `quiet` leaves out Lightning's progress bar.

    Raises
    ------
    InputError
        Weights to start from that cannot be used, or a folder that holds a training on another patient or with other
        settings; another training works in it; it cannot be written.
    """
    if _is_follower():
        return _train(settings, folder, on_progress or Progress(), quiet)
    with work_folder(folder):
        _cut_half_lines(folder)  # of a process that was killed
        try:
            return _train(settings, folder, on_progress or Progress(), quiet)
        finally:
            _cut_half_lines(folder)  # of a full disk


def _train(settings: TrainSettings, folder: Path, report: Progress, quiet: bool) -> Path:
    training = settings.training
    heads = folder / "heads"
    recorded = _begin(settings, folder, heads, report)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    lightning.seed_everything(training.seed, workers=True, verbose=False)
    module = Training(settings, heads)
    best = _Checkpoint(folder, filename="best", monitor="val_mpe_mm", enable_version_counter=False)
    last = _Checkpoint(folder, filename="last", enable_version_counter=False)
    callbacks: list[Callback] = [best, last, LearningRateMonitor("epoch"), _Curves(folder)]
    if training.patience:
        callbacks.append(EarlyStopping("val_mpe_mm", patience=training.patience))
    trainer = lightning.Trainer(
        accelerator=training.accelerator,
        devices=training.devices,
        num_nodes=training.nodes,
        precision=training.precision,
        max_epochs=training.epochs,
        max_time=timedelta(minutes=training.minutes) if training.minutes else None,
        gradient_clip_val=training.clip,
        # An epoch has samples of its own, which `train_dataloader` numbers by it.
        reload_dataloaders_every_n_epochs=1,
        callbacks=callbacks,
        logger=CSVLogger(folder, "logs"),
        plugins=[_WholeCheckpoints()],
        default_root_dir=folder,
        num_sanity_val_steps=0,
        # On a card its deterministic kernels cost more than they are worth: samples are the same, sums of gradients not quite.
        deterministic=None if _card_trains(training) else "warn",
        enable_model_summary=False,
        enable_progress_bar=not quiet,
        log_every_n_steps=min(50, training.batches),
    )
    begin = time.perf_counter()
    checkpoint = folder / CHECKPOINT
    # A checkpoint is a pickle, which could run code: only numbers and words are taken from it, here and below.
    trainer.fit(module, ckpt_path=checkpoint if checkpoint.exists() else None, weights_only=True)
    weights = folder / WEIGHTS
    if trainer.is_global_zero:
        chosen = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        module.load_state_dict(chosen["state_dict"])
        facts = {
            "made": f"{datetime.now(UTC):%Y-%m-%d}",
            "epochs": int(chosen["epoch"]) + 1,
            "images": (int(chosen["epoch"]) + 1) * training.batch * training.batches,
            "minutes": round((time.perf_counter() - begin) / 60, 1),
            "val_mpe_mm": float(best.best_model_score or np.nan),
            "settings": recorded,
        }
        save_network(module.network, weights, facts)
    return weights


def _card_trains(training: LearningSettings) -> bool:
    return training.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def _is_follower() -> bool:
    """Of the processes that train together on several devices the first alone holds the folder and writes into it."""
    return bool(getattr(rank_zero_only, "rank", 0))


def _cut_half_lines(folder: Path) -> None:
    """Lightning's logger adds to its files; what it could not end would be taken for numbers by the curves."""
    for path in folder.glob("logs/version_*/metrics.csv"):
        content = path.read_bytes()
        if not content:
            path.unlink()
        elif not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)


def _begin(settings: TrainSettings, folder: Path, heads: Path, report: Progress) -> dict[str, Any]:
    """Settings and heads of a training in their folder, new or as they were; the settings as files keep them.

    Which patient the folder is of is written before anything is made of the CTA, so that no interruption mixes two.
    """
    patient = read_patient(Path(settings.training.patient)) if settings.training.patient else None
    recorded = _recorded(settings, patient)
    _keep_settings(recorded, folder, heads)
    make_heads(settings, heads, report, patient)
    return recorded


def _recorded(settings: TrainSettings, patient: Volume | None) -> dict[str, Any]:
    """The settings as plain values; CTA and weights by their content (SHA-256), as paths may name the patient."""
    # Through JSON, as tuples come back from the file as lists.
    recorded: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    training = recorded["training"]
    if patient is not None:
        training["patient"] = content_hash(patient.voxels, patient.affine)
    if settings.training.start_from:
        training["start_from"] = file_hash(settings.training.start_from)
    return recorded


def _keep_settings(now: dict[str, Any], folder: Path, heads: Path) -> None:
    """Write the settings, or compare them with those the folder's training began with. Time limits may differ.

    Raises
    ------
    InputError
        The folder's heads are of another patient; the training has other settings.
    """
    path = folder / SETTINGS
    begun = (folder / CHECKPOINT).exists()
    then = _settings_in(path)
    if (begun or any(heads.glob("*.npz"))) and _patient_of(then) != now["training"]["patient"]:
        # What is made already would be taken for this patient's.
        was = "on another patient" if _patient_of(then) else "on synthetic heads"
        raise InputError(
            Message(
                f"{name_of(folder, 'out')} holds a training {was if then else 'that does not say on whom'} "
                "(SHA-256 of the CTA)",
                at="out",
                advice="Give another folder.",
            )
        )
    other = [
        f"{table}.{name}"
        for table, values in now.items()
        for name, value in values.items()
        if value != then.get(table, {}).get(name) and name not in ("minutes", "workers")
    ]
    if begun and other:
        raise InputError(
            Message(
                f"{name_of(folder, 'out')} holds a training with other settings ({', '.join(other)})",
                at="out",
                advice="Give another folder, or the same settings.",
            )
        )
    if not _is_follower():
        with output_file(path, (".json",), overwrite=True) as beside:
            beside.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")


def _settings_in(path: Path) -> dict[str, Any]:
    """What a training was begun with; empty where it does not say."""
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return then if isinstance(then, dict) and all(isinstance(table, dict) for table in then.values()) else {}


def _patient_of(then: dict[str, Any]) -> Any:
    return then.get("training", {}).get("patient")


def make_heads(settings: TrainSettings, folder: Path, report: Progress, patient: Volume | None = None) -> None:
    """Make the heads that are not there yet: those to train on, and some that only judge; or that of the one patient."""
    training = settings.training
    folder.mkdir(parents=True, exist_ok=True)
    clear_leftovers(folder)
    if patient is not None:
        if not head_file(folder, 0).exists():
            report.expect(expected(Step.SEGMENT_CTA))
            report(Step.SEGMENT_CTA, 0.0)
            save_head(head_of_patient(patient), head_file(folder, 0))
            report(Step.SEGMENT_CTA, 1.0)
        return
    wanted = [*range(training.heads), *range(JUDGING, JUDGING + judging_heads(training.heads))]
    missing = [number for number in wanted if not head_file(folder, number).exists()]
    report.expect(expected(Step.MAKE_HEADS))
    jobs = max(1, training.workers)
    make: Callable[[int], None] = partial(_make_head, folder)
    if len(missing) < 4 or jobs == 1:
        for done, number in enumerate(missing):
            report(Step.MAKE_HEADS, done / len(missing))
            make(number)
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            for done, _ in enumerate(pool.map(make, missing)):
                report(Step.MAKE_HEADS, done / len(missing))
    report(Step.MAKE_HEADS, 1.0)


def _make_head(folder: Path, number: int) -> None:
    head = make_head_points(number)
    with disk_faults(folder, AFTER_FULL):  # said here too, as this may be a process of its own
        save_head(head, head_file(folder, number))


class _WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there: Lightning's own go through the folder for temporary files, on another disk maybe."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        content = io.BytesIO()  # torch's own writing of files does not say which of the system's errors it met
        torch.save(checkpoint, content)
        with output_file(path, (Path(path).suffix,), overwrite=True) as beside:
            beside.write_bytes(content.getbuffer())


class _Checkpoint(ModelCheckpoint):
    """Says where its files lie within the training's folder: above it, names of folders may be a patient's."""

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = _with_prefix(super().state_dict(), f"{self.dirpath}", _HERE)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(_with_prefix(state_dict, _HERE, f"{self.dirpath}"))


_HERE = "."  # in a checkpoint, the folder in which it lies


def _with_prefix(value: Any, before: str, after: str) -> Any:
    """The value with every text that begins with the folder `before` beginning with `after`."""
    if isinstance(value, dict):
        return {_with_prefix(key, before, after): _with_prefix(item, before, after) for key, item in value.items()}
    if isinstance(value, str) and (value == before or value.startswith((f"{before}/", f"{before}\\"))):
        return after + value[len(before) :]
    return value


class _Curves(Callback):
    """Losses as a picture after each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.is_global_zero and isinstance(trainer.logger, CSVLogger):
            trainer.logger.save()
            draw_curves(sorted(self.folder.glob("logs/version_*/metrics.csv")), self.folder / "curves.png")
