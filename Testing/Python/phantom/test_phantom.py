"""The phantom against analytic truths: volumes, chords, projections, timing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.phantom import (
    CLEAN,
    Patient,
    PhantomSettings,
    clean_images,
    make_patient,
    second_run,
    write_patient,
)
from DeepIterRegLib.phantom.centrelines import EXTERNAL, TERRITORIES, Centrelines
from DeepIterRegLib.phantom.head import LOW_MM, SPACING_MM, make_head
from DeepIterRegLib.phantom.raster import draw_tubes
from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, SkullSettings, ViewSettings
from DeepIterRegLib.phantom.skull import head_in_run, head_in_scan, opened_jaw
from DeepIterRegLib.phantom.tubes import chord_mm, tube_chords, tubes
from DeepIterRegLib.phantom.xray import line_integrals

SMALL = PhantomSettings(
    cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.2)),
    view=ViewSettings(matrices=(384,), field_mm=((300.0, 400.0), (400.0, 400.0))),
    run=RunSettings(
        frames_per_s=(1.5, 1.5),
        duration_s=(9.0, 9.0),
        injections=("left_ica", "right_ica"),
        injection_weights=(0.5, 0.5),
    ),
)


@pytest.fixture(scope="module")
def patient() -> Patient:
    return make_patient(11, SMALL)


def subtracted_minip(patient: Patient, first: int = 0, last: int | None = None) -> np.ndarray:
    logs = np.log(np.maximum(patient.run.frames.astype(np.float64), 1))
    return np.asarray((logs[first:last] - logs[list(patient.run.mask_frames)].mean(axis=0)).min(axis=0))


def filled_arteries(patient: Patient) -> np.ndarray:
    return (patient.run.filling.strength > 0.5) & ~patient.centrelines.vein


# -- pieces --------------------------------------------------------------------------------------------


def capsule(length_mm: float, radius_mm: float, spacing_mm: np.ndarray, blur_mm: float) -> tuple[float, float]:
    """Volumes in mm3 of coverage and mask of one oblique tube."""
    direction = np.array([0.36, 0.48, 0.8])
    start, end = np.full(3, 12.0), np.full(3, 12.0) + direction * length_mm
    shape = tuple((np.ceil((end + 12) / spacing_mm).astype(int))[::-1])
    coverage, mask = draw_tubes(
        start[None],
        end[None],
        np.array([radius_mm]),
        np.array([radius_mm]),
        np.ones(1),
        np.diag([*(1 / spacing_mm), 1.0]),
        spacing_mm,
        shape,
        blur_mm,
    )
    voxel = float(np.prod(spacing_mm))
    return float(coverage.sum(dtype=np.int64)) / 255 * voxel, float(mask.sum(dtype=np.int64)) * voxel


@pytest.mark.parametrize("radius_mm", [0.4, 1.0, 2.5, 5.0])
def test_partial_volume_conserves_the_volume_of_a_tube(radius_mm: float) -> None:
    spacing = np.array([0.5, 0.5, 0.6])
    long, short = (capsule(length, radius_mm, spacing, 0.4)[0] for length in (40.0, 20.0))
    assert long - short == pytest.approx(np.pi * radius_mm**2 * 20, rel=0.02)


def test_mask_of_a_thick_tube_has_the_volume_of_a_capsule() -> None:
    _, volume = capsule(30.0, 3.0, np.array([0.5, 0.5, 0.6]), 0.4)
    assert volume == pytest.approx(np.pi * 9 * 30 + 4 / 3 * np.pi * 27, rel=0.01)


def test_thin_tubes_stay_connected_in_the_mask() -> None:
    from scipy import ndimage

    direction = np.array([0.3, 0.5, 0.81])
    start, end = np.full(3, 4.0), 4.0 + 30 * direction
    _, mask = draw_tubes(
        start[None],
        end[None],
        np.full(1, 0.2),
        np.full(1, 0.2),
        np.ones(1),
        np.diag([2, 2, 2, 1.0]),
        np.full(3, 0.5),
        (70, 60, 60),
        0.3,
    )
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1


def straight(points: np.ndarray, radius_mm: float) -> Centrelines:
    n = len(points)
    return Centrelines(
        points,
        np.full(n, radius_mm),
        np.arange(-1, n - 1, dtype=np.int32),
        np.zeros(n, np.int8),
        np.zeros(n, np.int16),
        ("tube",),
    )


@pytest.mark.parametrize(
    ("origin", "direction", "expected"),
    [
        ([-50, 0, 5], [1, 0, 0], 4.0),  # through the axis
        ([-50, 1.2, 5], [1, 0, 0], 3.2),  # 2 sqrt(4 - 1.44)
        ([-50, 2.1, 5], [1, 0, 0], 0.0),
        ([-50, 0, 11], [1, 0, 0], 0.0),  # beyond the end
        ([0.5, 0.5, -50], [0, 0, 1], 10.0),  # along the tube
        ([-20, 0, -15], [np.sqrt(0.5), 0, np.sqrt(0.5)], 4 * np.sqrt(2)),  # at 45 degrees
    ],
)
def test_chord_of_a_cylinder_is_exact(origin: list[float], direction: list[float], expected: float) -> None:
    z = np.array([0.0, 0.0, 1.0])
    chord = chord_mm(np.array(origin, float), np.array(direction, float), np.zeros(3), 10 * z, z, z, 2.0)
    assert chord == pytest.approx(expected, abs=1e-9)


def test_chord_with_slanted_ends_equals_counting_points() -> None:
    rng = np.random.default_rng(1)
    start, end = np.array([1.0, 2, 3]), np.array([4.0, 6, 9])
    axis = (end - start) / np.linalg.norm(end - start)
    normals = [(axis + rng.normal(0, 0.25, 3)) for _ in range(2)]
    normals = [n / np.linalg.norm(n) for n in normals]
    for _ in range(50):
        through = start + rng.random() * (end - start) + rng.normal(0, 0.7, 3)
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        t = np.linspace(-30, 30, 60001)
        p = through + t[:, None] * direction
        radial = (p - start) - ((p - start) @ axis)[:, None] * axis
        inside = (np.linalg.norm(radial, axis=1) < 1.5) & ((p - start) @ normals[0] > 0) & ((p - end) @ normals[1] < 0)
        assert chord_mm(through - 30 * direction, direction, start, end, *normals, 1.5) == pytest.approx(
            inside.sum() * 1e-3, abs=3e-3
        )


@pytest.fixture
def view() -> CArm:
    return CArm.from_angles(12, -7, sid_mm=1100, sod_mm=740, rows=200, columns=240, pixel_spacing_mm=(0.4, 0.4))


def test_pieces_of_a_tube_add_up_to_the_tube(view: CArm) -> None:
    whole = straight(np.array([[-8.0, -5, -10], [9, 4, 12]]), 1.7)
    parts = straight(np.linspace([-8.0, -5, -10], [9, 4, 12], 23), 1.7)
    images = []
    for line in (whole, parts):
        shapes = tubes(line, line.parent >= 0)
        images.append(tube_chords(shapes, view, np.eye(4)).image(np.ones(len(shapes.node)), 200, 240))
    assert images[0].max() > 3.4
    np.testing.assert_allclose(images[1], images[0], atol=1e-4)


def test_a_bend_holds_no_volume_twice(view: CArm) -> None:
    t = np.linspace(0, np.pi, 40)
    ring = straight(np.column_stack([12 * np.cos(t), np.zeros(40), 12 * np.sin(t)]), 2.0)
    shapes = tubes(ring, ring.parent >= 0)
    image = tube_chords(shapes, view, np.eye(4)).image(np.ones(len(shapes.node)), 200, 240)
    # Sum of line integrals times the pixel's area at the isocentre: the volume of half a torus (Pappus).
    volume = image.sum() * (0.4 / view.magnification) ** 2
    assert volume == pytest.approx(np.pi * 4 * np.pi * 12, rel=0.02)


def test_line_integrals_of_a_ball_match_its_chords(view: CArm) -> None:
    axis = np.arange(-40, 41.0)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - 3) ** 2 + (y + 2) ** 2 + (z - 4) ** 2)
    ball = np.clip(25.5 - distance, 0, 1).astype(np.float32)
    to_index = np.eye(4)
    to_index[:3, 3] = 40
    image = line_integrals(ball, to_index, view, step_mm=0.5)
    r, c = np.meshgrid(np.arange(200), np.arange(240), indexing="ij")
    direction = view.pixel_positions(np.stack([c, r], axis=-1).astype(float)) - view.source_mm
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    to_centre = np.array([3.0, -2, 4]) - view.source_mm
    squared = 25.0**2 - (to_centre @ to_centre - (direction @ to_centre) ** 2)
    expected = 2 * np.sqrt(np.maximum(squared, 0))
    # One sampling step at most: each end of the chord is found to within half a step.
    assert np.abs(image - expected)[squared > 225].max() < 0.5
    assert np.abs((image - expected)[squared > 225].mean()) < 0.2
    assert image[squared < -120].max() == 0


# -- patients ------------------------------------------------------------------------------------------


def test_same_seed_same_patient_and_parts_do_not_disturb_each_other(patient: Patient) -> None:
    again = make_patient(11, replace(SMALL, run=replace(SMALL.run, motion_mm=0.0, motion_deg=0.0)))
    np.testing.assert_array_equal(again.cta.voxels, patient.cta.voxels)
    np.testing.assert_array_equal(again.cta_to_carm, patient.cta_to_carm)
    assert again.carm == patient.carm
    assert not np.array_equal(again.run.frames, patient.run.frames)
    once_more = make_patient(11, SMALL)
    np.testing.assert_array_equal(once_more.run.frames, patient.run.frames)


def test_truth_is_the_offset_from_the_radiological_pose(patient: Patient) -> None:
    centre = patient.cta.centre_mm
    np.testing.assert_allclose(pose.transform(patient.cta_to_carm, centre[None])[0], patient.offset_mm, atol=1e-9)
    np.testing.assert_allclose(pose.rotation_to_euler_deg(patient.cta_to_carm[:3, :3]), patient.offset_deg, atol=1e-9)
    assert (np.abs(patient.offset_deg) <= 35).all()
    assert (np.abs(patient.offset_mm) <= 40).all()


def test_cta_values_are_those_of_a_head(patient: Patient) -> None:
    hu = patient.cta.voxels
    thick = patient.centrelines.named("superior_sagittal") & (patient.centrelines.radius_mm > 2.5)
    index = np.round(
        (patient.centrelines.points_mm[thick] - patient.cta.affine[:3, 3]) @ np.linalg.inv(patient.cta.affine[:3, :3]).T
    ).astype(int)
    inside = np.all((index >= 0) & (index < hu.shape[::-1]), axis=1)
    i, j, k = index[inside].T
    assert 100 < np.median(hu[k, j, i]) < 450
    assert np.median(hu[patient.arteries.voxels & ~patient.veins.voxels]) > 100
    brain = hu[np.abs(hu.astype(int) - 35) < 60]
    assert 20 < np.median(brain) < 45
    assert (hu > 700).mean() > 0.01
    assert (hu < -800).mean() > 0.1


def test_projected_arteries_are_dark_at_the_true_pose(patient: Patient) -> None:
    minip = subtracted_minip(patient)
    nodes = filled_arteries(patient) & (patient.centrelines.radius_mm > 0.6)

    def darkness(cta_to_carm: np.ndarray) -> float:
        px = np.round(patient.carm.project(patient.centrelines.points_mm[nodes], cta_to_carm)).astype(int)
        px = px[np.all((px >= 3) & (px < [patient.carm.columns - 3, patient.carm.rows - 3]), axis=1)]
        return float(np.median(minip[px[:, 1], px[:, 0]]))

    at_truth = darkness(patient.cta_to_carm)
    assert at_truth < -0.08
    for shift in ([6, 0, 0], [0, 6, 0], [0, 0, 6], [-6, 0, 6]):
        if abs(np.dot(shift, patient.carm.beam_axis)) < 4:
            assert darkness(pose.translation(np.array(shift, float)) @ patient.cta_to_carm) > 0.7 * at_truth


def test_veins_fill_after_arteries(patient: Patient) -> None:
    filling, vein = patient.run.filling, patient.centrelines.vein
    arteries, veins = filled_arteries(patient), vein & (filling.strength > 0.1)
    assert veins.sum() > 200
    assert filling.arrival_s[veins].min() > np.quantile(filling.arrival_s[arteries], 0.99)
    assert np.median(filling.arrival_s[veins]) - np.median(filling.arrival_s[arteries]) > 2
    draining = patient.centrelines.named("superior_sagittal") & (filling.strength > 0)
    cortical = patient.centrelines.named("cortical_vein") & (filling.strength > 0.2)
    assert filling.arrival_s[draining].max() > np.median(filling.arrival_s[cortical])


def test_only_the_injected_territory_fills(patient: Patient) -> None:
    lines, filling = patient.centrelines, patient.run.filling
    other = ~lines.vein & (lines.territory != TERRITORIES.index(patient.run.injection))
    assert filling.strength[other].max() == 0
    assert (lines.territory[other] == EXTERNAL).any()
    side = -1.0 if patient.run.injection == "left_ica" else 1.0
    centre = np.median(lines.points_mm[:, 0])
    cortical = lines.named("cortical_vein")
    ipsilateral = cortical & ((lines.points_mm[:, 0] - centre) * side > 15)
    contralateral = cortical & ((lines.points_mm[:, 0] - centre) * side < -15)
    assert filling.strength[ipsilateral].mean() > 5 * filling.strength[contralateral].mean()


def test_beyond_an_occlusion_nothing_fills_early() -> None:
    settings = replace(
        SMALL,
        run=replace(
            SMALL.run, injections=("right_ica",), injection_weights=(1.0,), occlusions=("M1",), occlusion_weights=(1.0,)
        ),
    )
    patient = make_patient(3, settings)
    lines, filling = patient.centrelines, patient.run.filling
    assert patient.occlusion == "M1"
    beyond = patient.occluded & lines.named("right_M4")
    assert beyond.sum() > 300
    assert (filling.strength[beyond] <= 0.4).all()
    assert filling.strength[lines.named("right_A2")].min() == 1.0
    patent = filling.arrival_s[lines.named("right_A4")]
    assert filling.arrival_s[beyond].min() > np.median(patent)


def test_clean_preset_shows_every_vessel_without_motion_or_noise() -> None:
    patient = make_patient(
        5,
        replace(
            CLEAN,
            cta=SMALL.cta,
            view=SMALL.view,
            run=replace(CLEAN.run, frames_per_s=(1.0, 1.0), duration_s=(10.0, 10.0)),
        ),
    )
    assert (patient.run.filling.strength > 0).all()
    np.testing.assert_array_equal(patient.run.motion, np.broadcast_to(np.eye(4), patient.run.motion.shape))
    minip, clean = subtracted_minip(patient), clean_images(patient).minip()
    lit = clean < -0.02
    assert lit.mean() > 0.02
    assert np.median(minip[lit]) < -0.05
    air = np.log(patient.run.frames[0]) == np.log(4095)
    assert np.abs(minip[(clean > -1e-6) & ~air]).mean() < 0.01


def test_files_read_back_to_the_same_patient(patient: Patient, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from DeepIterRegLib.geometry.pose_files import read_pose
    from DeepIterRegLib.images.dicom import read_angiogram
    from DeepIterRegLib.images.files import load_volume

    write_patient(patient, tmp_path)
    cta = load_volume(tmp_path / "cta.nii.gz")
    np.testing.assert_array_equal(cta.voxels, patient.cta.voxels)
    np.testing.assert_allclose(cta.affine, patient.cta.affine, atol=1e-4)
    np.testing.assert_allclose(read_pose(tmp_path / "truth.tfm"), patient.cta_to_carm, atol=1e-9)
    np.testing.assert_allclose(read_pose(tmp_path / "truth.json"), patient.cta_to_carm, atol=1e-12)
    angiogram = read_angiogram(tmp_path / "dsa.dcm")
    nodes = patient.centrelines.points_mm[filled_arteries(patient) & (patient.centrelines.radius_mm > 1)]
    px = angiogram.carm.project(nodes, patient.cta_to_carm)
    np.testing.assert_allclose(px, patient.carm.project(nodes, patient.cta_to_carm), atol=0.02)
    px = np.round(px[np.all((px >= 3) & (px < [patient.carm.columns - 3, patient.carm.rows - 3]), axis=1)]).astype(int)
    assert np.median(angiogram.minip()[px[:, 1], px[:, 0]]) < -0.1


def test_second_run_is_another_view_of_the_same_head(patient: Patient, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from DeepIterRegLib.images.dicom import read_angiogram

    second = second_run(patient)
    assert second.cta is patient.cta
    np.testing.assert_array_equal(second.cta_to_carm, patient.cta_to_carm)
    assert abs(np.dot(second.carm.beam_axis, patient.carm.beam_axis)) < np.cos(np.radians(60))
    write_patient(patient, tmp_path, second)
    angiogram = read_angiogram(tmp_path / "dsa2.dcm")
    nodes = patient.centrelines.points_mm[filled_arteries(second) & (patient.centrelines.radius_mm > 1)]
    px = angiogram.carm.project(nodes, patient.cta_to_carm)
    px = np.round(px[np.all((px >= 3) & (px < [angiogram.carm.columns - 3, angiogram.carm.rows - 3]), axis=1)])
    px = px.astype(int)
    assert np.median(angiogram.minip()[px[:, 1], px[:, 0]]) < -0.1

    moved = second_run(patient, "ap", seed=1, between_runs_deg=2.0, between_runs_mm=3.0)
    apart = moved.cta_to_carm @ pose.inverse(patient.cta_to_carm)
    assert np.degrees(pose.rotation_angle(apart[:3, :3])) == pytest.approx(2.0, abs=1e-9)
    centres = [pose.transform(m, patient.cta.centre_mm[None])[0] for m in (patient.cta_to_carm, moved.cta_to_carm)]
    assert np.linalg.norm(centres[1] - centres[0]) == pytest.approx(3.0, abs=1e-9)
    assert moved.run.frames.shape != second.run.frames.shape or (moved.run.frames != second.run.frames).any()


def test_settings_that_cannot_work_are_named() -> None:
    with pytest.raises(InputError) as error:
        PhantomSettings(run=RunSettings(mask_frames=(0, 2), injections=("left_ica",)))
    assert len(error.value.problems) == 2


def test_skulls_of_run_and_scan_differ_only_when_asked() -> None:
    head = make_head(np.random.default_rng(3))
    assert head_in_run(head, 1, SkullSettings()) is head
    assert head_in_scan(head, 1, SkullSettings()) is head
    opened = opened_jaw(head, 10.0)
    changed = np.abs(opened.hu - head.hu) > 300
    z = LOW_MM[2] + SPACING_MM * np.nonzero(changed)[2]
    assert changed.any()
    assert z.max() < -30  # nothing above the skull base
    # The chin, 70 mm from the hinge, goes down by about 70 sin(10 deg) = 12 mm.
    lowest = [LOW_MM[2] + np.argmax((h.hu[80:105, 150:185] > 700).any(axis=(0, 1))) for h in (head, opened)]
    assert lowest[0] - lowest[1] == pytest.approx(10, abs=4)
