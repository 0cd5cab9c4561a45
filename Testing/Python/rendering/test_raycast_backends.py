"""Joseph's method by its three backends: numba is the truth of torch's, and both are that of Triton's, run by its interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.rendering import raycast_kernels, raycast_torch
from DeepIterRegLib.rendering.raycast import RaycastProjector

VOXELS = np.random.default_rng(0).uniform(-0.2, 1.0, (9, 14, 11))
# Sharp turns, so that the three axes are each followed by some rays.
TURNS_DEG = ((0, 0, 0), (0, 0, 80), (75, 10, 0), (33, -21, 47))


def volume(*, left_handed: bool = False) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, -15, 40), degrees=True).as_matrix() * (1.7, 1.1, 2.6)
    if left_handed:
        affine[:3, 0] *= -1
    affine[:3, 3] = (12.0, -7.0, 30.0)
    return Volume(VOXELS, affine)


def view(rows: int = 13, columns: int = 10) -> CArm:
    """An image that the volume fills partly, with rows and columns that are no multiples of a tile."""
    return CArm.from_angles(
        -28.5,
        21.9,
        sid_mm=1100,
        sod_mm=740,
        rows=rows,
        columns=columns,
        pixel_spacing_mm=(4.3, 4.9),
        principal_point_px=(5.3, 6.1),
    )


def poses(volume: Volume) -> torch.Tensor:
    start = pose.radiological(volume.centre_mm)
    turns = Rotation.from_euler("xyz", TURNS_DEG, degrees=True).as_matrix()
    shifts = np.random.default_rng(1).normal(size=(len(turns), 3)) * 5
    return torch.from_numpy(
        np.stack(
            [pose.offset_about(start, volume.centre_mm, turn, shift) for turn, shift in zip(turns, shifts, strict=True)]
        )
    )


def image_and_gradient(projector: RaycastProjector, poses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and the gradient of their sum weighted alike every time, by the poses' matrices; double precision."""
    leaf = poses.clone().requires_grad_()
    images = projector(leaf)
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=tuple(images.shape)))
    return images.detach().double(), torch.autograd.grad((images * weights).sum(), leaf)[0]


def assert_close(found: torch.Tensor, expected: torch.Tensor, relative: float) -> None:
    """To a part of the largest magnitude."""
    assert float((found - expected).abs().max()) <= relative * float(expected.abs().max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_gives_the_numbers_of_numba(dtype):
    """Values and all six slopes of random lines through random voxels, along each axis, past the volume, and parallel to axes."""
    rng = np.random.default_rng(3)
    framed = np.pad(VOXELS.astype(np.float32 if dtype == torch.float32 else np.float64), 1)
    counts = np.array(framed.shape[::-1])
    middle = rng.uniform(-2, counts + 1, (600, 3))
    half = rng.normal(size=(600, 3))
    half[:6] = np.concatenate([np.eye(3), -np.eye(3)])
    half *= 40 / np.linalg.norm(half, axis=1, keepdims=True)
    ends = middle - half, middle + half
    values, slopes = np.empty(600, framed.dtype), np.empty((600, 6), framed.dtype)
    strides = np.array([1, counts[0], counts[0] * counts[1]])
    raycast_kernels.joseph(framed.reshape(-1), strides, counts, *ends, 55.0, values, slopes)
    assert 300 < np.count_nonzero(values) < 600
    found, sloped = raycast_torch.joseph(torch.from_numpy(framed), *map(torch.from_numpy, ends), 55.0, True)
    assert found.dtype == dtype
    limit = 1e-4 if dtype == torch.float32 else 1e-12
    assert_close(found, torch.from_numpy(values), limit)
    assert_close(sloped, torch.from_numpy(slopes), limit)
    alone, none = raycast_torch.joseph(torch.from_numpy(framed), *map(torch.from_numpy, ends), 55.0, False)
    assert torch.equal(alone, found)
    assert not len(none)


@pytest.mark.parametrize("left_handed", [False, True])
def test_projector_by_torch_and_by_numba_agree(left_handed):
    head, carm = volume(left_handed=left_handed), view()
    by_numba, by_torch = (
        image_and_gradient(RaycastProjector(head, carm, "joseph", backend=backend), poses(head))
        for backend in ("numba", "torch")
    )
    for found, expected in zip(by_torch, by_numba, strict=True):
        assert_close(found, expected, 1e-4)


def test_backends_that_cannot_be_had_are_refused():
    with pytest.raises(InputError, match="numba of ray casting runs on the CPU, not on cuda:0"):
        RaycastProjector(volume(), view(), "joseph", device="cuda:0", backend="numba")
    with pytest.raises(InputError, match="triton of ray casting cannot be had on cpu in float64"):
        RaycastProjector(volume(), view(), "joseph", dtype=torch.float64, backend="triton")
    with pytest.raises(InputError, match="backend of ray casting is 'jax'"):
        RaycastProjector(volume(), view(), "joseph", backend="jax")  # type: ignore[arg-type]


# -- Triton, in a process of its own: whether its kernels are interpreted is settled when they are imported ----------


def triton_against_numba() -> None:
    """Images and gradients by the pose, single precision, and with a tile of another shape."""
    from DeepIterRegLib.rendering import raycast_triton

    for left_handed in (False, True):
        head, carm = volume(left_handed=left_handed), view()
        truth = image_and_gradient(
            RaycastProjector(head, carm, "joseph", dtype=torch.float64, backend="numba"), poses(head)
        )
        found = image_and_gradient(RaycastProjector(head, carm, "joseph", backend="triton"), poses(head))
        assert_close(found[0], truth[0], 1e-5)
        assert_close(found[1], truth[1], 1e-5)
    assert torch.equal(
        image_and_gradient(RaycastProjector(head, carm, "joseph", backend="triton"), poses(head))[1], found[1]
    )
    cut = raycast_triton.Tiling(across=4, down=8, planes=2)
    other = image_and_gradient(raycast_triton.caster(head, carm, "cpu", cut), poses(head))
    assert_close(other[0], truth[0], 1e-5)
    assert_close(other[1], truth[1], 1e-5)
    # More rays than one part of the reduction takes, and a head that no ray meets.
    wide = view(37, 31)
    truth, found = (
        image_and_gradient(RaycastProjector(head, wide, "joseph", backend=backend), poses(head)[:1])
        for backend in ("numba", "triton")
    )
    assert_close(found[0], truth[0], 1e-5)
    assert_close(found[1], truth[1], 1e-4)
    away = poses(head)[:1] + torch.tensor([[0, 0, 0, 900.0]])
    image, gradient = image_and_gradient(RaycastProjector(head, carm, "joseph", backend="triton"), away)
    assert not image.any()
    assert not gradient.any()
    assert RaycastProjector(head, carm, "joseph", backend="triton")(poses(head)[:0]).shape == (
        0,
        carm.rows,
        carm.columns,
    )


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_triton_gives_the_images_and_gradients_of_numba():
    # Beside a card's own Triton: its interpreter needs none, and takes seconds.
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    triton_against_numba()
