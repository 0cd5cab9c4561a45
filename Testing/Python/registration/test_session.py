"""Runs of a session: a new one is found near those before it, and all together tell where the head is; a moved head is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.phantom import Patient, second_run, write_patient
from DeepIterRegLib.registration.scene import Head
from DeepIterRegLib.registration.session import (
    Placed,
    SessionRun,
    add_run,
    fit_together,
    fitted,
    motion_since,
    reported,
)
from DeepIterRegLib.segmentation.dsa import segment_dsa

MIDDLE_MM = np.array([3.0, -10.0, 20.0])
AP, LATERAL = (
    CArm.from_angles(primary, 5.0, sid_mm=1200, sod_mm=750, rows=256, columns=256, pixel_spacing_mm=(1.0, 1.0))
    for primary in (2.0, 88.0)
)
# What one run knows: a turn to half a mm at the lever, a shift across the beam to 0.3 mm and along it to 2.
ACROSS_MM, ALONG_MM = 0.3, 2.0


def covariance(carm: CArm) -> np.ndarray:
    along_axes = np.zeros((6, 6))
    along_axes[:3, :3] = along_axes[3:, 3:] = carm.axes
    return along_axes.T @ np.diag([0.5, 0.5, 0.5, ACROSS_MM, ACROSS_MM, ALONG_MM]) ** 2 @ along_axes


def moved(at: np.ndarray, turn_deg: np.ndarray, shift_mm: np.ndarray) -> np.ndarray:
    return np.asarray(pose.offset_about(at, MIDDLE_MM, pose.so3_exp(np.radians(turn_deg)), shift_mm))


def seen(truth: np.ndarray, carm: CArm, rng: np.random.Generator, shared_mm: float = 0.0) -> Placed:
    """Where a run sees a head: off by as much as its covariance says, and by what is wrong along the beam in all runs."""
    error = np.linalg.cholesky(covariance(carm)) @ rng.normal(size=6)
    off = moved(truth, np.degrees(error[:3] / 60.0), error[3:] + shared_mm * carm.axes[2])
    return Placed(carm, off, covariance(carm))


def away_mm(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm((found - truth)[:3] @ np.append(MIDDLE_MM, 1.0)))


TRUTH = moved(pose.radiological(MIDDLE_MM), np.array([5.0, -8.0, 10.0]), np.array([4.0, -6.0, 12.0]))


def test_one_run_stays_where_it_is() -> None:
    placed = seen(TRUTH, AP, np.random.default_rng(0))
    fit = fit_together([placed], [1], MIDDLE_MM)
    np.testing.assert_allclose(fit.poses[0], placed.cta_to_carm, atol=1e-9)
    assert fit.shared_mm == pytest.approx(0.0, abs=1e-9)


def test_a_second_direction_tells_the_depth_of_the_first() -> None:
    """A head that lies still: each run's depth becomes known as well as the other sees it across its beam."""
    alone, together = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        runs = [seen(TRUTH, carm, rng) for carm in (AP, LATERAL)]
        fit = fit_together(runs, [1, 1], MIDDLE_MM)
        alone += [away_mm(run.cta_to_carm, TRUTH) for run in runs]
        together += [away_mm(found, TRUTH) for found in fit.poses]
    assert np.sqrt(np.mean(np.square(alone))) > 1.8
    assert np.sqrt(np.mean(np.square(together))) < 1.0


def test_what_is_wrong_along_all_beams_alike_is_found() -> None:
    """A SID that is 1 % wrong puts the head 7 mm off in every run; two directions contradict each other by that."""
    rng = np.random.default_rng(1)
    runs = [seen(TRUTH, carm, rng, shared_mm=7.0) for carm in (AP, LATERAL, AP, LATERAL)]
    fit = fit_together(runs, [1] * 4, MIDDLE_MM)
    assert fit.shared_mm == pytest.approx(7.0, abs=1.0)
    assert max(away_mm(found, TRUTH) for found in fit.poses) < 1.0
    assert min(away_mm(run.cta_to_carm, TRUTH) for run in runs) > 4.0


def test_the_announced_deviation_is_that_of_the_errors() -> None:
    """Heads that stir as is expected: of errors along the beam, over their deviations, the root mean square is 1."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng([7, seed])
        shared_mm, truth, runs, truths = 5.0 * rng.normal(), TRUTH, [], []
        for n in range(4):
            truth = moved(truth, rng.normal(size=3), rng.normal(size=3)) if n else truth
            truths.append(truth)
            runs.append(seen(truth, (AP, LATERAL)[n % 2], rng, shared_mm))
        fit = fit_together(runs, [1] * 4, MIDDLE_MM)
        for i, (run, found) in enumerate(zip(runs, fit.poses, strict=True)):
            error = run.beam[3:] @ (found - truths[i])[:3] @ np.append(MIDDLE_MM, 1.0)
            ratios.append(error / np.sqrt(run.beam @ fit.covariance[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] @ run.beam))
    assert 0.7 < np.sqrt(np.mean(np.square(ratios))) < 1.3


def test_a_segment_knows_nothing_of_another_but_what_is_shared() -> None:
    rng = np.random.default_rng(3)
    elsewhere = moved(TRUTH, np.zeros(3), np.array([0.0, 15.0, 0.0]))
    first, second = (
        [seen(TRUTH, carm, rng) for carm in (AP, LATERAL)],
        [seen(elsewhere, carm, rng) for carm in (AP, LATERAL)],
    )
    fit = fit_together([*first, *second], [1, 1, 2, 2], MIDDLE_MM)
    assert max(away_mm(found, TRUTH) for found in fit.poses[:2]) < 1.0
    assert max(away_mm(found, elsewhere) for found in fit.poses[2:]) < 1.0


@pytest.mark.parametrize("carm", [AP, LATERAL], ids=["AP", "lateral"])
def test_a_head_that_was_moved_is_told_from_one_that_stirred(carm: CArm) -> None:
    """15 mm in any direction, along the beam too, against 4 mm and 4 deg; with a SID that shows all runs 6 mm too far away."""
    wrong = 0
    for seed in range(30):
        rng = np.random.default_rng([5, seed])
        known = [seen(TRUTH, one, rng, shared_mm=6.0) for one in (AP, LATERAL)]
        fit = fit_together(known, [1, 1], MIDDLE_MM)
        direction, axis = rng.normal(size=(2, 3))
        direction, axis = direction / np.linalg.norm(direction), axis / np.linalg.norm(axis)
        for far_mm, repositioned in ((15.0, True), (4.0, False)):
            there = moved(TRUTH, 4.0 * axis, far_mm * direction)
            wrong += motion_since(fit, 1, seen(there, carm, rng, 6.0), MIDDLE_MM).repositioned != repositioned
    assert wrong <= 1


def test_motion_is_told_across_and_along_the_beam() -> None:
    still = replace(seen(TRUTH, AP, np.random.default_rng(0)), cta_to_carm=TRUTH)
    fit = fit_together([still], [1], MIDDLE_MM)
    there = moved(TRUTH, np.array([0.0, 0.0, 6.0]), 3.0 * AP.axes[0] + 4.0 * AP.axes[1] + 2.0 * AP.axes[2])
    motion = motion_since(fit, 0, replace(still, cta_to_carm=there), MIDDLE_MM)
    assert motion.across_mm == pytest.approx(5.0, abs=1e-6)
    assert motion.along_mm == pytest.approx(2.0, abs=1e-6)
    assert motion.turn_deg == pytest.approx(6.0, abs=1e-6)


# -- registered in earnest -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head(small_patient: Patient) -> Head:
    return Head(prepare_cta(small_patient.cta), small_patient.vessels)


@pytest.fixture(scope="module")
def session(
    small_patient: Patient, head: Head, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[SessionRun], list[Angiogram], list[np.ndarray]]:
    """Two runs of a head that stirred by 3 mm and 3 deg between them, the second found from the first."""
    folder = tmp_path_factory.mktemp("session")
    later = second_run(small_patient, between_runs_deg=3.0, between_runs_mm=3.0)
    write_patient(small_patient, folder, later)
    angiograms = [read_angiogram(folder / name) for name in ("dsa.dcm", "dsa2.dcm")]
    runs: list[SessionRun] = []
    for angiogram in angiograms:
        runs.append(add_run(head, runs, angiogram, segment_dsa(angiogram)))
    truths = [one.run.motion[one.run.mask_frames[0]] @ one.cta_to_carm for one in (small_patient, later)]
    return runs, angiograms, truths


def test_a_run_is_found_from_the_one_before(
    session: tuple[list[SessionRun], list[Angiogram], list[np.ndarray]], head: Head
) -> None:
    runs, angiograms, truths = session
    assert [run.registration.init.method for run in runs] == ["auto", "earlier"]
    assert {run.segment for run in runs} == {1}
    for run, angiogram, truth in zip(runs, angiograms, truths, strict=True):
        off_mm = mpe_mm(angiogram.carm, run.registration.cta_to_carm, truth, head.cta.centre_mm)
        assert float(off_mm) < 3.0


def test_what_is_reported_is_shown_where_the_image_shows_it(
    session: tuple[list[SessionRun], list[Angiogram], list[np.ndarray]], head: Head
) -> None:
    """The pose is that of all runs; its C-arm projects the head to where this run's own image has it."""
    runs, angiograms, _ = session
    points = head.points.subset(500, np.random.default_rng(0)).positions + head.points.origin_mm
    for run, together, angiogram in zip(runs, fitted(runs, head.points.origin_mm), angiograms, strict=True):
        told = reported(run, together)
        assert together is not None
        np.testing.assert_array_equal(told.cta_to_carm, together.cta_to_carm)
        assert told.views[0].carm == told.carm
        apart_px = told.carm.project(points, told.cta_to_carm) - angiogram.carm.project(
            points, run.registration.cta_to_carm
        )
        apart_mm = np.linalg.norm(apart_px * np.array(angiogram.carm.pixel_spacing_mm)[::-1], axis=1)
        assert float(apart_mm.mean()) < 1.0


def test_the_same_session_has_the_same_bits(
    session: tuple[list[SessionRun], list[Angiogram], list[np.ndarray]], head: Head
) -> None:
    runs, angiograms, _ = session
    again = add_run(head, runs[:1], angiograms[1], segment_dsa(angiograms[1]))
    assert again.registration.cta_to_carm.tobytes() == runs[1].registration.cta_to_carm.tobytes()
    assert again.placed is not None
    assert runs[1].placed is not None
    assert again.placed.covariance_mm2.tobytes() == runs[1].placed.covariance_mm2.tobytes()
