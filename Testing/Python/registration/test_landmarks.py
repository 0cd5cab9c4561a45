"""Poses from paired landmarks: known poses come back, one slip does no harm, and what fixes no pose is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, mpe_mm, pose
from DeepIterRegLib.geometry.landmarks import pose_from_landmarks
from DeepIterRegLib.registration.landmarks import (
    Landmarks,
    PlacedLandmarks,
    landmark_errors,
    landmark_warnings,
    read_landmarks,
    read_point_list,
)

CENTRE = np.array([12.0, -30.0, 640.0])


def view(primary_deg: float = 90.0, secondary_deg: float = 0.0) -> CArm:
    return CArm.from_angles(
        primary_deg, secondary_deg, sid_mm=1180, sod_mm=760, rows=1024, columns=960, pixel_spacing_mm=(0.3, 0.3)
    )


def head_points(rng: np.random.Generator, count: int) -> np.ndarray:
    return CENTRE + rng.uniform(-70, 70, (count, 3))


def truth(rng: np.random.Generator, degrees: float, mm: float) -> np.ndarray:
    turn = pose.euler_deg_to_rotation(rng.uniform(-degrees, degrees, 3))
    return np.asarray(pose.offset_about(pose.radiological(CENTRE), CENTRE, turn, rng.uniform(-mm, mm, 3)))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [4, 6, 12])
def test_known_pose_comes_back_exactly(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    carm = view(*[(90, 0), (0, 0), (-28.5, 21.9)][seed % 3])
    wanted = truth(rng, 40, 60)
    points = head_points(rng, count)
    found = pose_from_landmarks(points, carm.project(points, wanted), carm)
    assert mpe_mm(carm, found.cta_to_carm, wanted, CENTRE) < 0.05
    assert found.residuals_mm.max() < 0.05
    rotation = found.cta_to_carm[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_any_orientation_of_the_head_is_found(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    carm = view(0, 0)
    turn = pose.so3_exp(rng.normal(size=3) * 2)
    wanted = np.asarray(pose.offset_about(pose.radiological(CENTRE), CENTRE, turn, rng.uniform(-40, 40, 3)))
    points = head_points(rng, 8)
    found = pose_from_landmarks(points, carm.project(points, wanted), carm)
    assert mpe_mm(carm, found.cta_to_carm, wanted, CENTRE) < 0.05


def test_points_in_one_plane_are_enough() -> None:
    rng = np.random.default_rng(5)
    carm, wanted = view(), truth(rng, 30, 30)
    points = head_points(rng, 7)
    points[:, 2] = CENTRE[2]
    found = pose_from_landmarks(points, carm.project(points, wanted), carm)
    assert found.residuals_mm.max() < 0.1


def test_clicks_off_by_a_millimetre_give_a_pose_off_by_about_that() -> None:
    errors = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        carm, wanted = view(), truth(rng, 25, 30)
        points = head_points(rng, 8)
        pixels = carm.project(points, wanted) + rng.normal(scale=1.0 / 0.3, size=(8, 2))
        errors.append(float(mpe_mm(carm, pose_from_landmarks(points, pixels, carm).cta_to_carm, wanted, CENTRE)))
    assert np.median(errors) < 2.0


def test_one_slip_among_ten_pulls_little() -> None:
    rng = np.random.default_rng(3)
    carm, wanted = view(), truth(rng, 20, 20)
    points = head_points(rng, 10)
    pixels = carm.project(points, wanted)
    pixels[4] += [150, -90]
    found = pose_from_landmarks(points, pixels, carm)
    assert mpe_mm(carm, found.cta_to_carm, wanted, CENTRE) < 5
    assert int(np.argmax(found.residuals_mm)) == 4


def test_what_fixes_no_pose_is_refused() -> None:
    rng = np.random.default_rng(0)
    carm, wanted = view(), truth(rng, 10, 10)
    points = head_points(rng, 8)
    pixels = carm.project(points, wanted)
    with pytest.raises(InputError, match="3 pairs of landmarks; at least 4"):
        pose_from_landmarks(points[:3], pixels[:3], carm)
    with pytest.raises(InputError, match="8 landmarks on the CTA and 7 on the DSA"):
        pose_from_landmarks(points, pixels[:7], carm)
    line = CENTRE + np.outer(np.linspace(-50, 50, 6), [0.2, 0.5, 0.8])
    with pytest.raises(InputError, match=r"landmarks on the CTA lie within .* mm of one line"):
        pose_from_landmarks(line, carm.project(line, wanted), carm)
    with pytest.raises(InputError, match="not finite"):
        pose_from_landmarks(points, np.where(np.arange(8)[:, None] == 2, np.nan, pixels), carm)
    with pytest.raises(InputError, match="same points in the same order"):
        pose_from_landmarks(points, pixels[::-1], carm)


@pytest.mark.parametrize("slip_mm", [10, 60, 150])
def test_one_wrong_of_eight_with_honest_clicks(slip_mm: float) -> None:
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        carm, wanted = view(), truth(rng, 25, 30)
        points = head_points(rng, 8)
        pixels = carm.project(points, wanted) + rng.normal(scale=0.7 / 0.3, size=(8, 2))
        direction = rng.normal(size=2)
        pixels[3] += slip_mm / 0.3 * direction / np.linalg.norm(direction)
        found = pose_from_landmarks(points, pixels, carm)
        errors.append(float(mpe_mm(carm, found.cta_to_carm, wanted, CENTRE)))
        assert int(np.argmax(found.residuals_mm)) == 3
    assert max(errors) < 5
    assert np.median(errors) < 2.5


# -- the table, and landmarks as a check -------------------------------------------------------------


def test_table_and_errors_at_a_pose(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    carm, wanted = view(), truth(rng, 20, 20)
    points = head_points(rng, 5)
    pixels = carm.project(points, wanted)
    pixels[2] += [30, -40]  # 50 px, 15 mm
    names = ["ICA left", "siphon", "torcula", "", "M1"]
    rows = [f"{n};{';'.join(f'{v:.6f}' for v in (*p, *q))}" for n, p, q in zip(names, points, pixels, strict=True)]
    table = tmp_path / "points.csv"
    table.write_text("\n".join(["Name;X;Y;Z;Column;Row", *rows, ";;;;;"]), encoding="utf-8")
    landmarks = read_landmarks(table)
    assert landmarks.names == ("ICA left", "siphon", "torcula", "4", "M1")
    errors = landmark_errors(landmarks, carm, wanted)
    np.testing.assert_allclose([e.error_px for e in errors], [0, 0, 50, 0, 0], atol=1e-4)
    np.testing.assert_allclose([e.error_mm for e in errors], [0, 0, 15, 0, 0], atol=1e-4)
    (warning,) = landmark_warnings(errors)
    assert warning.startswith("Landmark torcula lies 15.0 mm (50 px)")


def test_unequal_pixels_are_measured_in_mm_along_each_axis() -> None:
    carm = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=750, rows=400, columns=400, pixel_spacing_mm=(0.5, 0.25))
    point = np.array([[10.0, 5.0, -20.0]])
    seen = carm.project(point, np.eye(4))
    for shift, mm in (([8.0, 0.0], 2.0), ([0.0, 8.0], 4.0)):
        (error,) = landmark_errors(Landmarks(("a",), point, seen + shift), carm, np.eye(4))
        assert error.error_px == pytest.approx(8)
        assert error.error_mm == pytest.approx(mm)


def test_everything_wrong_with_a_table_is_said(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text("name,x,y,z,column\na,1,2,3,4\n", encoding="utf-8")
    with pytest.raises(InputError, match="lacks the column row"):
        read_landmarks(table)
    table.write_text("x,y,z,column,row\n1,2,three,4,5\n1,2,3,nan,\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_landmarks(table)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "z must be a number.",
        "column, row must be a number.",
    ]
    with pytest.raises(InputError, match="does not exist"):
        read_landmarks(tmp_path / "absent.csv")


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize("place", ["as loaded", "on the detector"])
def test_point_lists_of_slicer(system: str, place: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    carm = CArm.from_angles(20, 5, sid_mm=1100, sod_mm=750, rows=700, columns=800, pixel_spacing_mm=(0.35, 0.3))
    wanted = truth(rng, 20, 10)
    points = head_points(rng, 5)
    pixels = carm.project(points, wanted)
    if place == "as loaded":
        on_dsa = np.column_stack([-0.3 * pixels[:, 0], -0.35 * pixels[:, 1], np.zeros(5)])
    else:
        on_dsa = carm.pixel_positions(pixels)

    def write(name: str, positions: np.ndarray, labels: str = "abcde") -> Path:
        own = positions * ([-1, -1, 1] if system == "LPS" else 1)
        listed = [
            {"label": label, "position": p.tolist(), "positionStatus": "defined"}
            for label, p in zip(labels, own, strict=True)
        ]
        listed.append({"label": "unplaced", "position": [0, 0, 0], "positionStatus": "undefined"})
        file = tmp_path / name
        markup = {"type": "Fiducial", "coordinateSystem": system, "controlPoints": listed}
        file.write_text(json.dumps({"markups": [markup]}), encoding="utf-8")
        return file

    cta, dsa = write("cta.mrk.json", points), write("dsa.mrk.json", on_dsa)
    found = read_landmarks(cta, dsa).on(carm)
    assert found.names == tuple("abcde")
    np.testing.assert_allclose(found.points_cta_mm, points, atol=1e-9)
    np.testing.assert_allclose(found.pixels, pixels, atol=1e-6)
    with pytest.raises(InputError, match="`dsa_landmarks`"):
        read_landmarks(cta)
    with pytest.raises(InputError, match=r"5 points and fewer.mrk.json 3"):
        read_landmarks(cta, write("fewer.mrk.json", on_dsa[:3], "abc"))
    astray = on_dsa.copy()
    astray[1] += 5000
    with pytest.raises(InputError, match="DSA landmarks b do not lie"):
        read_landmarks(cta, write("astray.mrk.json", astray)).on(carm)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a point list"):
        read_landmarks(cta, tmp_path / "other.json")


def fcsv(path: Path, head: str, rows: list[str]) -> Path:
    path.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


FULL = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"


@pytest.mark.parametrize(
    ("head", "sign"),
    [
        ("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n" + FULL, -1),
        ("# Markups fiducial file version = 4.11\n# CoordinateSystem = RAS\n" + FULL, 1),
        ("# Markups fiducial file version = 4.10\n# CoordinateSystem = 0\n" + FULL, 1),
        ("# Markups fiducial file version = 4.6\n# CoordinateSystem = 1\n" + FULL, -1),
        ("# Markups fiducial file version = 4.10\n" + FULL, 1),
        ("# Markups fiducial file version = 5.2\n" + FULL, -1),
        ("", 1),
    ],
)
def test_older_point_lists_say_their_coordinates(head: str, sign: int, tmp_path: Path) -> None:
    rows = [f"{n},{n},2,3.5,0,0,0,1,1,1,0,F-{n},," for n in range(1, 4)]
    found = read_point_list(fcsv(tmp_path / "F.fcsv", head, rows))
    assert found.labels == ("F-1", "F-2", "F-3")
    np.testing.assert_array_equal(found.points_mm, [[sign * n, sign * 2, 3.5] for n in range(1, 4)])


def test_oldest_point_lists(tmp_path: Path) -> None:
    """Slicer 3: a label first, RAS."""
    path = fcsv(tmp_path / "F.fcsv", "# name = F\n# columns = label,x,y,z,sel,vis\n", ["a,1,2,3,1,1", "b,4,5,6,1,1"])
    found = read_point_list(path)
    assert found.labels == ("a", "b")
    np.testing.assert_array_equal(found.points_mm, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("head", "row", "says"),
    [
        ("# CoordinateSystem = IJK\n" + FULL, "1,1,2,3,0,0,0,1,1,1,0,F-1,,", "neither LPS nor RAS"),
        (FULL, "1,1,2,,0,0,0,1,1,1,0,F-1,,", "point 1 has no three coordinates"),
        (FULL, "1,nan,2,3,0,0,0,1,1,1,0,F-1,,", "point 1 has no three coordinates"),
        (FULL, "1,1,2,3,0,0,0,1,1,1,0,F-1,,,0,0", "holds no points"),
    ],
)
def test_point_lists_that_cannot_be_used(head: str, row: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_point_list(fcsv(tmp_path / "F.fcsv", head, [row]))


@pytest.mark.parametrize("missing", [None, [None, 1, 2], [float("nan"), 0, 0], "here", [1, 2]])
def test_a_point_without_a_position(missing: object, tmp_path: Path) -> None:
    point = {"label": "F-1", "position": missing, "positionStatus": "defined"}
    (tmp_path / "F.mrk.json").write_text(json.dumps({"markups": [{"controlPoints": [point]}]}))
    with pytest.raises(InputError, match="have no position"):
        read_point_list(tmp_path / "F.mrk.json")
    point["positionStatus"] = "undefined"
    (tmp_path / "F.mrk.json").write_text(json.dumps({"markups": [{"controlPoints": [point]}]}))
    with pytest.raises(InputError, match="holds no points"):
        read_point_list(tmp_path / "F.mrk.json")


def test_a_point_missing_on_one_image_is_no_pair(tmp_path: Path) -> None:
    """In the middle of a list: those behind it keep their partners."""

    def write(name: str, missing: int | None) -> Path:
        points = [
            {
                "label": f"{name}{n}",
                "position": [n, 10 * n, 0],
                "positionStatus": "undefined" if n == missing else "defined",
            }
            for n in range(6)
        ]
        (tmp_path / f"{name}.mrk.json").write_text(
            json.dumps({"markups": [{"coordinateSystem": "RAS", "controlPoints": points}]})
        )
        return tmp_path / f"{name}.mrk.json"

    found = read_landmarks(write("c", 1), write("d", 3))
    assert isinstance(found, PlacedLandmarks)
    assert found.names == ("c0", "c2", "c4", "c5")
    np.testing.assert_array_equal(found.points_cta_mm, found.on_dsa_mm)
    assert len(read_landmarks(write("c", 4), write("d", 4)).names) == 5
    with pytest.raises(InputError, match="has 5 points"):
        read_landmarks(write("c", 5), write("d", None))
