"""Pose files: round trips, the direction ITK means, faults."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose, write_tfm


def some_pose() -> np.ndarray:
    return pose.se3_exp(np.array([0.3, -0.5, 0.2, 30.0, -12.0, 45.0]))


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".txt"])
def test_round_trip(tmp_path, suffix):
    path = tmp_path / f"ctaToCarm{suffix}"
    write_tfm(path, some_pose())
    np.testing.assert_allclose(read_pose(path), some_pose(), atol=1e-9)


def test_itk_maps_carm_points_to_the_cta_in_lps(tmp_path):
    """Resampling semantics: the file's transform takes a point of the fixed (C-arm) space to the moving (CTA) space."""
    path = tmp_path / "ctaToCarm.tfm"
    write_tfm(path, some_pose())
    point_cta = np.array([10.0, -20.0, 30.0])
    point_carm = pose.transform(some_pose(), point_cta[None])[0]
    lps = np.array([-1, -1, 1])
    mapped = sitk.ReadTransform(str(path)).TransformPoint((point_carm * lps).tolist())
    np.testing.assert_allclose(np.array(mapped) * lps, point_cta, atol=1e-6)


def test_json(tmp_path):
    path = tmp_path / "registration.json"
    path.write_text(json.dumps({"ctaToCarm": some_pose().tolist()}))
    np.testing.assert_array_equal(read_pose(path), some_pose())


def scaled() -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 0] = 1.1
    return matrix


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.tfm", None, "does not exist"),
        ("noise.tfm", "not a transform", "not a transform file"),
        ("empty.json", "{}", "ctaToCarm"),
        ("broken.json", "{", "ctaToCarm"),
        ("scaled.json", json.dumps({"ctaToCarm": scaled().tolist()}), "not rigid"),
        ("short.json", json.dumps({"ctaToCarm": [[1, 0], [0, 1]]}), "not a 4x4 matrix"),
    ],
)
def test_faults_are_said_in_a_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=says):
        read_pose(path)


def test_non_linear_transform_is_refused(tmp_path):
    path = tmp_path / "bspline.tfm"
    sitk.WriteTransform(sitk.BSplineTransform(3), str(path))
    with pytest.raises(InputError, match="linear"):
        read_pose(path)
