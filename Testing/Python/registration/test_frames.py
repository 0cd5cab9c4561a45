"""A head that moves within its run: found in every frame, kept with the result, and drawn where it lay."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_registration import made_registration

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.angiogram import Angiogram, PatientMotion
from DeepIterRegLib.images.resampling import displacements
from DeepIterRegLib.images.subtraction import subtract
from DeepIterRegLib.phantom import PhantomSettings, make_patient
from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.skull.frames import coarse_view, positions_of
from DeepIterRegLib.registration.vessels.points import Points

CARM = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=800, rows=256, columns=256, pixel_spacing_mm=(1.0, 1.0))


@pytest.fixture(scope="module")
def moving() -> SimpleNamespace:
    """A phantom that moves by up to 3 mm and 3 deg within its run, as the program reads it, and the vessels it shows."""
    settings = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)),
        view=ViewSettings(matrices=(256,)),
        run=RunSettings(frames_per_s=(2.0, 2.0), duration_s=(6.0, 6.0), motion_mm=3.0, motion_deg=3.0),
    )
    patient = make_patient(3, settings)
    run = patient.run
    valid = run.frames.min(axis=0) > 0
    found = subtract(np.log(np.maximum(run.frames.astype(np.float32), 0.5)), valid, mask_frames=run.mask_frames)
    assert found.motion is not None
    mm = max(patient.carm.pixel_spacing_mm) / patient.carm.magnification
    motion = PatientMotion(mm * found.motion.undone, mm * found.motion.left, found.motion.fields, found.motion.before)
    angiogram = Angiogram(found.frames, patient.carm, run.frame_times_s, valid, found.unsubtracted, motion=motion)
    at_mask = run.motion[run.mask_frames[-1]] @ patient.cta_to_carm
    points = patient.centrelines.points_mm[run.filling.strength > 0.5]
    points = points[patient.carm.contains(patient.carm.project(points, at_mask))]
    vessels = Points(points.astype(np.float32), np.ones(len(points)), np.zeros((len(points), 3)), np.zeros(3))
    skull = Skull(patient.cta, (angiogram,))
    frames = skull.frame_motion(1, patient.carm, at_mask, vessels)
    return SimpleNamespace(
        patient=patient, run=angiogram, at_mask=at_mask, points=points, vessels=vessels, frames=frames, skull=skull
    )


def test_overlay_errors_of_frames_fall_by_half(moving: SimpleNamespace) -> None:
    patient, run, frames, carm = moving.patient, moving.run, moving.frames, moving.patient.carm
    assert frames is not None
    mm = np.array(carm.pixel_spacing_mm)[::-1]
    still, image, head = [], [], []
    for number, moved in enumerate(patient.run.motion):
        truth = carm.project(moving.points, moved @ patient.cta_to_carm)
        at_mask = carm.project(moving.points, moving.at_mask)
        field = run.motion.fields[number]
        undone = at_mask + displacements(field, at_mask[:, ::-1], run.valid.shape)[:, ::-1]
        there = carm.project(moving.points, frames.cta_to_carm[frames.of_frame[number]])
        for errors, found in ((still, at_mask), (image, undone), (head, there)):
            errors.append(np.linalg.norm((found - truth) * mm, axis=1).mean())
    away = np.array(still) > 1.0
    assert away.any()
    still_mm, image_mm, head_mm = (np.array(errors)[away].mean() for errors in (still, image, head))
    assert head_mm < 0.3 * still_mm
    assert head_mm < 0.7 * image_mm, "a turn across the beam is parallax, which no bending of the image undoes"
    assert np.max(head) < 1.0, "nor does the overlay leave a head that lies still"


def test_the_largest_motion_is_said(moving: SimpleNamespace) -> None:
    carm, poses = moving.patient.carm, moving.patient.run.motion @ moving.patient.cta_to_carm
    at = np.array([carm.project(moving.points, at) for at in poses])
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1).mean(axis=-1).max()
    truth_mm = apart * carm.pixel_spacing_mm[0] / carm.magnification
    assert moving.frames.moved_mm == pytest.approx(truth_mm, abs=0.5)
    assert moving.frames.sentence == f"The head moved by up to {moving.frames.moved_mm:.1f} mm within the run."
    assert replace(moving.frames, moved_mm=0.2).sentence == "The head lay still within the run."
    offsets = moving.frames.offset_px[moving.frames.of_frame] - moving.frames.offset_px[moving.frames.of_frame[0]]
    truth = at.mean(axis=1) - at[0].mean(axis=0)
    np.testing.assert_allclose(offsets, truth, atol=1.0)


def test_where_no_skull_is_seen_nothing_is_said_of_frames(moving: SimpleNamespace) -> None:
    carm = moving.patient.carm
    subtracted = replace(moving.run, unsubtracted=None, motion=None)
    assert moving.skull.in_runs((subtracted,)).frame_motion(1, carm, moving.at_mask, moving.vessels) is None
    elsewhere = pose.offset_about(
        moving.at_mask, moving.patient.cta.centre_mm, pose.euler_deg_to_rotation(np.array([60.0, 0, 70])), np.zeros(3)
    )
    assert moving.skull.frame_motion(1, carm, elsewhere, moving.vessels) is None


def test_frames_share_a_position_until_the_picture_moves() -> None:
    shifts = np.array([0, 0, 0.05, 0, 3, 3.02, 3, -2, -2])
    fields = np.zeros((len(shifts), 2, 6))
    fields[:, 1, 0] = shifts
    motion = PatientMotion(np.abs(shifts), np.zeros(len(shifts)), fields, np.zeros((len(shifts), 1, 1)))
    assert positions_of(motion, CARM).tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    drifting = replace(motion, fields=np.linspace(0, 20, 60)[:, None, None] * np.eye(2, 6))
    assert 6 <= positions_of(drifting, CARM)[-1] + 1 <= 12


def test_coarse_frames_see_the_same(moving: SimpleNamespace) -> None:
    carm = moving.patient.carm.resampled(515, 640)
    grid, valid = coarse_view(carm, np.ones((515, 640), bool), (171, 213))
    assert valid.shape == (grid.rows, grid.columns) == (171, 213)
    fine, coarse = (view.project(moving.points, moving.at_mask) for view in (carm, grid))
    np.testing.assert_allclose(3 * coarse + 1, fine, atol=1e-6)


def test_frames_are_kept_with_the_result(moving: SimpleNamespace) -> None:
    made = made_registration(64)
    with_frames = replace(made, views=(replace(made.views[0], frames=moving.frames),))
    text = json.dumps(with_frames.to_json_dict(), allow_nan=False)
    back = Registration.from_json_dict(json.loads(text)).views[0].frames
    assert back == moving.frames
    assert hash(back) == hash(moving.frames)
    assert back != replace(moving.frames, moved_mm=9.0)
    for name in ("of_frame", "cta_to_carm", "undone", "offset_px", "moved_mm"):
        np.testing.assert_allclose(getattr(back, name), getattr(moving.frames, name), atol=1e-3)
    earlier = json.loads(text)
    del earlier["views"][0]["frames"]
    assert Registration.from_json_dict(earlier).views[0].frames is None
    values = moving.frames.to_json_dict()
    for spoilt in ({"positionOfFrame": [99]}, {"undone": [[1.0] * 12]}, {"movedMm": float("nan")}):
        if spoilt.get("undone") and len(values["undone"]) == 1:
            continue
        with pytest.raises(ValueError, match=r"."):
            FrameMotion.from_json_dict({**values, **spoilt})


def test_what_is_damaged_in_the_motion_of_frames_is_refused(moving: SimpleNamespace) -> None:
    """A displacement that no detector has would be looked up outside its picture."""
    values = moving.frames.to_json_dict()
    poses, undone = values["ctaToCarm"], values["undone"]
    for spoilt in (
        {"positionOfFrame": []},
        {"ctaToCarm": [np.zeros((4, 4)).tolist()] * len(poses)},
        {"ctaToCarm": [(1e9 * np.eye(4)).tolist()] * len(poses)},
        {"undone": (np.array(undone) + 1e300).tolist()},
        {"offsetPx": [[1e30, 0.0]] * len(poses)},
        {"movedMm": -1.0},
    ):
        with pytest.raises(ValueError, match=r"."):
            FrameMotion.from_json_dict({**values, **spoilt})
