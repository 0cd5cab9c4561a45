"""Training throughput of the initial pose network: images made by splatting, and the same loop with DiffDRR's ray casting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import benchmarking
import numpy as np
from benchmarking import table

BATCH = 32
WORKING_MM = 1.0  # voxels of the head that DiffDRR casts rays through


def main(argv: list[str] | None = None) -> None:
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import torch

    from DeepIterRegLib.registration.network.config import TrainSettings
    from DeepIterRegLib.registration.network.heads import head_file, make_head_points, save_head
    from DeepIterRegLib.registration.network.loss import image_loss, pose_loss
    from DeepIterRegLib.registration.network.model import corrected
    from DeepIterRegLib.registration.network.samples import make_sample
    from DeepIterRegLib.registration.network.training import Samples, Training

    options = benchmarking.parse("training", __doc__ or "", argv)
    settings = TrainSettings()
    if options.small:
        settings = replace(settings, network=replace(settings.network, rows=32, pixel_mm=8.0))
    batch, repeats = (4, 1) if options.small else (BATCH, options.limit or 6)
    head = make_head_points(0)
    with tempfile.TemporaryDirectory() as folder:
        save_head(head, head_file(Path(folder), 0))
        training = Training(settings, Path(folder)).train()
        samples = Samples(settings, Path(folder), range(1), 0, batch * (repeats + 1))
        optimiser = torch.optim.AdamW(training.parameters(), 1e-4)

        def step(number: int) -> None:
            items = [samples[number * batch + n] for n in range(batch)]
            together = tuple(torch.stack(parts) for parts in zip(*items, strict=True))
            with torch.autocast("cpu", torch.bfloat16):
                loss = training.training_step(together, number)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        ours_s = median_s(step, repeats) / batch

    def cast(number: int) -> None:
        """One image of the same loop, batch of one: both inputs and the prediction ray cast, gradient to the network."""
        sample = make_sample(head, np.random.default_rng(number), settings.network, settings.sampling, 10)
        projector = raycaster(head, sample)
        with torch.no_grad():
            moving, fixed = projector(sample.start[None]), projector(sample.truth[None])
        images = torch.stack([moving[0], fixed[0]])[None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = corrected(sample.start[None], training.network(images).float())
        loss = image_loss(projector(predicted), fixed, settings.training.dice_pool)
        loss = loss + settings.training.pose_weight * pose_loss(
            predicted, sample.truth[None], settings.training.lever_mm
        )
        loss.mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    theirs_s = median_s(cast, 1 if options.small else min(repeats, 3))
    rows = [
        ["splat (default)", str(batch), f"{1 / ours_s:.0f}", "1"],
        ["DiffDRR Siddon", "1", f"{1 / theirs_s:.2f}", f"1 / {theirs_s / ours_s:.0f}"],
    ]
    body = "\n\n".join(
        [
            f"Images a second through the whole loop, one process: sample made, network at {settings.network.rows} px "
            "(bfloat16), loss with "
            "the prediction re-rendered, backward, step. DiffDRR casts rays through the head's vessels on voxels of "
            f"{WORKING_MM:g} mm, moving, "
            "fixed and predicted image.",
            table(["renderer", "batch", "images per second", "ratio"], rows),
        ]
    )
    benchmarking.write_result("training", "Training throughput of the initial pose network", body, options)


def raycaster(head: Any, sample: Any) -> Callable[[Any], Any]:
    """DiffDRR's images (B, rows, columns) of the head for cameras (B, 3, 4)."""
    import torch

    from DeepIterRegLib.images.volume import Volume
    from DeepIterRegLib.rendering.raycast import RaycastProjector

    position = (head.axis_mm + head.offset_mm)[head.radius_mm > 0.7]
    index = np.unique(np.rint((position - position.min(axis=0)) / WORKING_MM).astype(int), axis=0)
    voxels = np.zeros(tuple(index.max(axis=0)[::-1] + 1), dtype=np.float32)
    voxels[tuple(index.T[::-1])] = 1
    affine = np.diag([WORKING_MM] * 3 + [1.0])
    affine[:3, 3] = -(index.max(axis=0) * WORKING_MM) / 2
    projector = RaycastProjector(Volume(voxels, affine), sample.view)
    axes = torch.from_numpy(sample.view.axes).float()
    source = torch.tensor(sample.view.source_mm).float()

    def images(cameras: torch.Tensor) -> torch.Tensor:
        rotation = axes.T @ cameras[:, :, :3]
        top = torch.cat([rotation, (cameras[:, :, 3] @ axes + source)[..., None]], dim=-1)
        bottom = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(len(cameras), 1, 4)
        return projector(torch.cat([top, bottom], dim=1))

    return images


def median_s(work: Callable[[int], None], repeats: int) -> float:
    """Median seconds of some runs after one that does not count."""
    work(0)
    seconds = []
    for number in range(1, repeats + 1):
        begin = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
