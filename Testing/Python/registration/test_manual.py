"""Moving the head by hand: offsets against projected points, quick and sharp projection, the score against the registration's."""

from __future__ import annotations

import numpy as np
import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.manual import (
    History,
    LiveScore,
    Offset,
    dragged,
    moved,
    offset_between,
    tilted,
    turned_in_picture,
)
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.scene import contrast_image
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.rendering.live import LiveProjector
from DeepIterRegLib.results.report.images import vessel_projection
from DeepIterRegLib.segmentation.dsa import segment_dsa
from helix import helix, registered

CENTRE = np.array([12.0, -30.0, 250.0])


def view(rows: int = 512, columns: int = 512) -> CArm:
    return CArm.from_angles(
        35, -20, sid_mm=1200, sod_mm=750, rows=rows, columns=columns, pixel_spacing_mm=(200 / rows, 200 / rows)
    )


def start() -> np.ndarray:
    turn = pose.euler_deg_to_rotation(np.array([5.0, -8.0, 11.0]))
    return np.asarray(pose.offset_about(pose.radiological(CENTRE), CENTRE, turn, np.array([20.0, -15.0, 8.0])))


def pixel(carm: CArm, cta_to_carm: np.ndarray, point: np.ndarray = CENTRE) -> np.ndarray:
    return np.asarray(carm.project(point[None], cta_to_carm))[0]


@pytest.mark.parametrize("carm", [view(), view().mirrored(), view().turned(1)], ids=["plain", "mirrored", "turned"])
def test_offsets_move_the_picture_as_they_say(carm: CArm) -> None:
    """Right is right, down is down, clockwise is clockwise, whichever way the image is stored."""
    begin = start()
    at = pixel(carm, begin)
    depth = (pose.transform(begin, CENTRE[None])[0] - np.array(carm.source_mm)) @ np.array(carm.beam_axis)
    right = pixel(carm, moved(begin, CENTRE, carm, Offset(shift_mm=(10.0, 0, 0)))) - at
    assert right == pytest.approx([10 * carm.sid_mm / depth / carm.pixel_spacing_mm[1], 0])
    down = pixel(carm, moved(begin, CENTRE, carm, Offset(shift_mm=(0, 10.0, 0)))) - at
    assert down == pytest.approx([0, 10 * carm.sid_mm / depth / carm.pixel_spacing_mm[0]])
    # A point right of the centre, in the plane across the beam, goes down when the head turns clockwise.
    beside = pose.transform(pose.inverse(begin), (pose.transform(begin, CENTRE[None]) + 30 * carm.axes[0]))[0]
    turned = moved(begin, CENTRE, carm, Offset(turn_deg=(0, 0, 90.0)))
    assert pixel(carm, turned) == pytest.approx(at)
    assert pixel(carm, turned, beside)[0] == pytest.approx(at[0])
    assert pixel(carm, turned, beside)[1] > at[1] + 10
    # The side at the detector goes up, and right.
    near = pose.transform(pose.inverse(begin), (pose.transform(begin, CENTRE[None]) + 30 * carm.axes[2]))[0]
    here = pixel(carm, begin, near)
    assert pixel(carm, moved(begin, CENTRE, carm, Offset(turn_deg=(20.0, 0, 0))), near)[1] < here[1] - 5
    assert pixel(carm, moved(begin, CENTRE, carm, Offset(turn_deg=(0, 20.0, 0))), near)[0] > here[0] + 5


@pytest.mark.parametrize("carm", [view(), view().mirrored()], ids=["plain", "mirrored"])
def test_offsets_come_back(carm: CArm) -> None:
    given = Offset((12.0, -7.0, 25.0), (3.0, -4.0, 15.0))
    found = offset_between(start(), moved(start(), CENTRE, carm, given), CENTRE, carm)
    assert (*found.turn_deg, *found.shift_mm) == pytest.approx((*given.turn_deg, *given.shift_mm))
    assert offset_between(start(), start(), CENTRE, carm).turn_deg == pytest.approx((0, 0, 0))


def test_dragging_follows_the_pointer() -> None:
    carm, begin = view(), start()
    pixels = np.array([[200.0, 300.0], [230.0, 260.0]])
    first, last = carm.pixel_positions(pixels)
    after = moved(begin, CENTRE, carm, dragged(begin, CENTRE, carm, first, last))
    assert pixel(carm, after) - pixel(carm, begin) == pytest.approx(pixels[1] - pixels[0])
    middle = pixel(carm, begin)
    round_it = carm.pixel_positions(middle + np.array([[100.0, 0.0], [0.0, 100.0]]))
    assert turned_in_picture(begin, CENTRE, carm, *round_it).turn_deg == pytest.approx((0, 0, 90.0))
    # Past the other side of the circle it does not jump.
    across = carm.pixel_positions(middle + np.array([[-100.0, -1.0], [-100.0, 1.0]]))
    assert abs(turned_in_picture(begin, CENTRE, carm, *across).turn_deg[2]) < 2
    assert tilted(carm, first, last).turn_deg[0] > 0, "upwards: the side at the detector goes up"
    assert tilted(carm, first, last).turn_deg[1] > 0, "to the right"


def test_history_goes_back_and_forth() -> None:
    poses = [np.full((4, 4), float(n)) for n in range(4)]
    history = History()
    assert history.undo(poses[0]) is None
    history.add(poses[0])
    history.add(poses[0])
    history.add(poses[1])
    assert np.array_equal(history.undo(poses[2]), poses[1])  # type: ignore[arg-type]
    assert np.array_equal(history.undo(poses[1]), poses[0])  # type: ignore[arg-type]
    assert not history.can_undo
    assert np.array_equal(history.redo(poses[0]), poses[1])  # type: ignore[arg-type]
    assert np.array_equal(history.redo(poses[1]), poses[2])  # type: ignore[arg-type]
    assert history.redo(poses[2]) is None
    history.undo(poses[2])
    history.add(poses[3])
    assert not history.can_redo


@pytest.mark.parametrize(("rows", "columns"), [(200, 240), (660, 661)])
def test_the_sharp_image_is_the_reports(rows: int, columns: int) -> None:
    vessels, carm = helix(), view(rows, columns)
    cta_to_carm = pose.radiological(vessels.centre_mm)
    expected = vessel_projection(vessels, carm, cta_to_carm)
    live = LiveProjector(vessels, carm)
    *waiting, image = live.sharpen(cta_to_carm)
    assert all(each is None for each in waiting)
    assert image == pytest.approx(expected, abs=1e-3)
    draft = live.draft(cta_to_carm)
    assert draft.shape == (rows, columns)
    assert draft.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert np.corrcoef(draft.ravel(), expected.ravel())[0, 1] > 0.9


def test_drafts_have_no_holes() -> None:
    """A solid ball of 2 mm voxels on pixels of 0.2 mm at the head: every pixel well inside its shadow has something."""
    k, j, i = np.indices((40, 40, 40)) - 19.5
    ball = Volume(k**2 + j**2 + i**2 < 18**2, np.diag([2.0, 2.0, 2.0, 1.0]))
    carm = view(640, 640)
    cta_to_carm = pose.radiological(ball.centre_mm)
    image = LiveProjector(ball, carm).draft(cta_to_carm)
    down, right = np.indices(image.shape) - 319.5
    inside = np.hypot(down, right) < 0.8 * 36 * carm.magnification / carm.pixel_spacing_mm[0]
    assert image[inside].min() > 0.2 * image.max()


def test_an_empty_mask_is_a_sentence() -> None:
    with pytest.raises(InputError, match="empty"):
        LiveProjector(Volume(np.zeros((3, 3, 3), bool), np.eye(4)), view())


def test_the_score_is_the_registrations() -> None:
    """As reported, and from what the scene keeps: the contrast's image and the vessels without their margins."""
    carm = view(200, 240)
    _, angiogram, vessels = registered(carm, np.array([0.05, 1.0, 0.1]))
    masks = segment_dsa(angiogram)
    settings = RegistrationSettings(init="radiological", seed=3)
    found = register(vessels, angiogram, settings, cta_mask=vessels, dsa_masks=masks)
    kept = np.where(angiogram.valid, contrast_image(masks, angiogram.valid), -1).astype(np.float32)
    score = LiveScore(vessels, kept, carm, settings.search.saturation_mm, settings.seed)
    assert score(found.cta_to_carm) == pytest.approx(found.score, abs=1e-5)
    worse = moved(found.cta_to_carm, found.centre_cta_mm, carm, Offset((5.0, 5.0, 5.0), (5.0, 5.0, 0.0)))
    assert score(worse) < found.score - 0.1
