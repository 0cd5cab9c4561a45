"""The card's backend gives the CPU's answer: by torch's operations on the CPU, by Triton's kernels where they can run."""

from __future__ import annotations

import os
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from tree_scene import MASK, SMALL_BOX, run_at, small, truth_at
from vessel_tree import vessel_tree

from DeepIterRegLib.common import devices
from DeepIterRegLib.common.devices import NoMemory
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.registration import compute
from DeepIterRegLib.registration.compute import SkullDrawing, VesselDrawing, Window, cpu, operations
from DeepIterRegLib.registration.compute.drawings import Backend, Drawing
from DeepIterRegLib.registration.compute.tensors import TorchBackend
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.skull.targets import SkullTarget
from DeepIterRegLib.registration.vessels.least_squares import LEVER_MM, camera_matrices, move
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.search import Level, refine_poses, search
from DeepIterRegLib.registration.vessels.targets import (
    FIND,
    REFINE,
    Measure,
    Target,
    View,
    gaussian_taps,
    make_target,
    vessel_channels,
)
from DeepIterRegLib.rendering.splat import SplatProjector

CARM = CArm.from_angles(-75.0, 14.0, sid_mm=1050, sod_mm=720, rows=160, columns=144, pixel_spacing_mm=(2.4, 2.4))
KNEE_MM = np.float32(0.4)


def kernels() -> list[ModuleType]:
    """What can run here: Triton's kernels need a card, or its interpreter, in which they take seconds."""
    if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
        pytest.importorskip("triton")
        from DeepIterRegLib.registration.compute import fused

        return [operations, fused]
    return [operations]


@pytest.fixture(params=kernels(), ids=lambda module: module.__name__.rpartition(".")[2])
def card(request: pytest.FixtureRequest) -> TorchBackend:
    return TorchBackend("cuda" if torch.cuda.is_available() else "cpu", request.param)


def image_of(points: Points, carm: CArm) -> tuple[np.ndarray, np.ndarray]:
    """Truth (4, 4) and the image (rows, columns) seen there."""
    truth = pose.radiological(points.origin_mm)
    projector = SplatProjector(points.positions + points.origin_mm, points.weights, carm)
    return truth, projector(torch.from_numpy(truth[None]))[0].numpy()


def case(measure: Measure, seed: int, off_mm: float = 8.0) -> tuple[Points, Target, np.ndarray, np.ndarray]:
    """Points, a target with a shutter and noise, cameras and centres of random poses; some points fall outside of the image."""
    rng = np.random.default_rng(seed)
    points = vessel_tree(seed).subset(700, rng)
    truth, image = image_of(points, CARM)
    valid = np.ones(image.shape, dtype=bool)
    valid[:20] = valid[:, 130:] = False
    image = image + rng.normal(scale=0.05 * image.max(), size=image.shape).astype(np.float32)
    target = make_target(vessel_channels(image, valid), valid, CARM, 48, 1.0, measure)
    poses = move(np.repeat(truth[None], 3, axis=0), rng.normal(size=(3, 6)) * off_mm, points, CARM)
    return points, target, *camera_matrices(poses, points.origin_mm, target.carm)


def skull_of(target: Target) -> SkullTarget:
    """The target's directions as if they were a gradient: any image will do."""
    return SkullTarget(np.ascontiguousarray(target.image[1:]), target.valid, target.carm, target.taps)


def window_of(image: np.ndarray, carm: CArm, norm_power: float) -> Window:
    margin = 9
    wide = carm.cropped(-margin, -margin, carm.rows + 2 * margin, carm.columns + 2 * margin)
    return Window(image, wide, margin, np.array([6, carm.rows, 0, carm.columns - 4]), norm_power)


def assert_same(found: np.ndarray, expected: np.ndarray, relative: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, atol=relative * float(np.abs(expected).max()), rtol=0)


@pytest.mark.parametrize("measure", [FIND, REFINE])
@pytest.mark.parametrize("off_mm", [3.0, 60.0])
def test_inner_products_are_those_of_the_cpu(card: TorchBackend, measure: Measure, off_mm: float) -> None:
    """Score, gradient and Gauss-Newton matrix follow from these alone."""
    points, target, cameras, centres = case(measure, 1, off_mm)
    expected = cpu.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
    found = card.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
    for rows in (slice(0, 7), slice(7, 8), slice(8, 9)):
        assert_same(found[:, rows], expected[:, rows])
    expected = cpu.skull_products(points, cameras, centres, LEVER_MM, skull_of(target), KNEE_MM)
    found = card.skull_products(points, cameras, centres, LEVER_MM, skull_of(target), KNEE_MM)
    for rows in (slice(0, 7), slice(7, 8)):
        assert_same(found[:, rows], expected[:, rows])


@pytest.mark.parametrize("shape", [(48, 40), (96, 144), (160, 144)])
def test_working_images_are_those_of_the_cpu(card: TorchBackend, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    images = rng.normal(size=(3, 160, 144)).astype(np.float32)
    part = rng.random((160, 144)) < 0.5
    for where in (None, part):
        for sigma_px in (0.8, 1.5):
            taps = gaussian_taps(sigma_px)
            assert_same(card.shrunk(images, where, shape, taps), cpu.shrunk(images, where, shape, taps))


@pytest.mark.parametrize("norm_power", [0.5, 1.0])
def test_shifts_are_those_of_the_cpu(card: TorchBackend, norm_power: float) -> None:
    points, target, cameras, _ = case(FIND, 2)
    skull = SkullDrawing(points, target.taps, KNEE_MM)
    of: list[tuple[Drawing, np.ndarray, bool]] = [
        (VesselDrawing(points, target.taps, 5.0, target.measure.direction_scale), target.image, False),
        (skull, skull_of(target).image, False),
        (skull, skull_of(target).image, True),
    ]
    for drawing, image, apart in of:
        window = replace(window_of(image, target.carm, norm_power), apart=apart)
        theirs, mine = cpu.shift_scores(drawing, window), card.shift_scores(drawing, window)
        assert_same(mine.maps(cameras), theirs.maps(cameras))
        scores, shifts = mine.best(cameras, 2)
        expected, places = theirs.best(cameras, 2)
        assert_same(scores, expected)
        np.testing.assert_array_equal(shifts, places)


def test_the_same_input_gives_the_same_bits_in_any_company(card: TorchBackend) -> None:
    points, target, cameras, centres = case(FIND, 3)
    together = card.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0)
    np.testing.assert_array_equal(card.vessel_products(points, cameras, centres, LEVER_MM, target, 5.0), together)
    order = np.random.default_rng(0).permutation(len(points.weights))
    shuffled = Points(points.positions[order], points.weights[order], points.tangents[order], points.origin_mm)
    np.testing.assert_array_equal(card.vessel_products(shuffled, cameras, centres, LEVER_MM, target, 5.0), together)


@pytest.mark.parametrize("seed", range(20))
def test_the_pose_is_that_of_the_cpu(seed: int) -> None:
    """A backend that were right only nearly would end elsewhere: the levels chain some thousand sums."""
    points = vessel_tree(seed)
    truth, image = image_of(points, CARM)
    valid = np.ones(image.shape, dtype=bool)
    channels = vessel_channels(image, valid)
    rng = np.random.default_rng(seed)
    starts = move(np.repeat(truth[None], 4, axis=0), rng.normal(size=(4, 6)) * 5, points, CARM)
    levels = (Level(48, 800, 1.0, 5, 2), Level(96, 2000, 1.0, 8, 1, REFINE))
    found = []
    for backend in (cpu, TorchBackend("cpu")):
        with compute.by(backend, "here"):  # type: ignore[arg-type]
            found.append(refine_poses(starts, points, [View(channels, valid, CARM)], levels, 5.0).cta_to_carm)
    assert mpe_mm(CARM, *found, points.origin_mm) < 0.02
    assert mpe_mm(CARM, found[1], truth, points.origin_mm) < 1.0


def test_the_search_comes_to_the_same_pose() -> None:
    points = vessel_tree(5)
    truth, image = image_of(points, CARM)
    valid = np.ones(image.shape, dtype=bool)
    channels = vessel_channels(image, valid)
    start = pose.offset_about(
        truth, points.origin_mm, pose.euler_deg_to_rotation(np.array([9.0, -7.0, 5.0])), np.array([8.0, 5.0, -9.0])
    )
    found = []
    for backend in (cpu, TorchBackend("cpu")):
        with compute.by(backend, "here"):  # type: ignore[arg-type]
            views = [View(channels, valid, CARM)]  # which keep the targets that a backend made
            found.append(search(points, views, start, points.origin_mm, SMALL_BOX).cta_to_carm)
    assert mpe_mm(CARM, *found, points.origin_mm) < 0.02


class Full:
    """A card whose memory ends after so many questions."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.asked > self.answers:
            raise NoMemory

    def shrunk(self, *arguments: object) -> np.ndarray:
        self._ask()
        return cpu.shrunk(*arguments)  # type: ignore[arg-type]

    def vessel_products(self, *arguments: object) -> np.ndarray:
        self._ask()
        return cpu.vessel_products(*arguments)  # type: ignore[arg-type]

    def skull_products(self, *arguments: object) -> np.ndarray:
        self._ask()
        return cpu.skull_products(*arguments)  # type: ignore[arg-type]

    def shift_scores(self, drawing: Drawing, window: Window) -> Full:
        self._ask()
        self.scores = cpu.shift_scores(drawing, window)
        return self

    batch = 64

    def best(self, cameras: np.ndarray, peaks: int) -> tuple[np.ndarray, np.ndarray]:
        self._ask()
        return self.scores.best(cameras, peaks)

    def maps(self, cameras: np.ndarray) -> np.ndarray:
        self._ask()
        return self.scores.maps(cameras)


@pytest.mark.parametrize("answers", [0, 3, 9])
def test_where_a_card_is_full_the_cpu_goes_on(answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever that happens: the pose is the CPU's, and the result says so."""
    truth = truth_at([5.0, -6.0, 4.0], [4.0, -5.0, 6.0])
    run, masks = run_at(truth)
    settings = small(RegistrationSettings.preset("default", init="search"))
    cta = MASK.with_voxels(np.where(MASK.voxels, 300, 40).astype(np.int16))
    expected = register(cta, run, settings, cta_mask=MASK, dsa_masks=masks)
    assert expected.computed_on == "CPU"
    full = Full(answers)
    monkeypatch.setattr(compute, "on", lambda device: compute.by(full, "A small card"))  # type: ignore[arg-type]
    found = register(cta, run, settings, cta_mask=MASK, dsa_masks=masks)
    assert full.asked == answers + 1
    np.testing.assert_array_equal(found.cta_to_carm, expected.cta_to_carm)
    assert found.computed_on == "A small card"
    assert [w for w in found.warnings if w not in expected.warnings] == [
        "The graphics card had too little memory left. The CPU computed the rest, with the same result in more time."
    ]


def test_the_backends_fit_the_seam() -> None:
    chosen: list[Backend] = [TorchBackend("cpu")]
    assert devices.named("cpu") is None
    assert chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what to do where there is no card")
def test_a_card_that_is_not_there_is_refused_and_auto_takes_the_cpu() -> None:
    assert devices.named("auto") is None
    for name in ("cuda", "cuda:2"):
        with pytest.raises(InputError, match=rf"{name.upper()} is asked for, but this computer has no CUDA devices"):
            devices.named(name)
        with pytest.raises(InputError, match="no CUDA devices"):
            RegistrationSettings.preset("default", device=name)
