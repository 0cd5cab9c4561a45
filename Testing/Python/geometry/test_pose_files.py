"""Pose files: round trips, the direction ITK means, faults."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from limits import files_of_at_most

from DeepIterRegLib.common.atomic_output import output_file
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


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_a_full_disk_is_told(tmp_path, suffix):
    """ITK itself says nothing."""
    with (
        pytest.raises(InputError, match="cannot be written: File too large"),
        output_file(tmp_path / f"ctaToCarm{suffix}", (suffix,)) as path,
        files_of_at_most(100),
    ):
        write_tfm(path, some_pose())
    assert list(tmp_path.iterdir()) == []


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


# -- as other programs write them ---------------------------------------------------------------------


def rigid_transforms() -> dict[str, sitk.Transform]:
    """One motion, about a centre that is not 0, in the ways that ITK has."""
    euler = sitk.Euler3DTransform((10.0, 20.0, -30.0), 0.1, -0.2, 0.3, (4.0, 5.0, 6.0))
    versor = sitk.VersorRigid3DTransform()
    versor.SetCenter(euler.GetCenter())
    versor.SetMatrix(euler.GetMatrix())
    versor.SetTranslation(euler.GetTranslation())
    affine = sitk.AffineTransform(euler.GetMatrix(), euler.GetTranslation(), euler.GetCenter())
    similar = sitk.Similarity3DTransform()
    similar.SetCenter(euler.GetCenter())
    similar.SetMatrix(euler.GetMatrix())
    similar.SetTranslation(euler.GetTranslation())
    return {
        "euler": euler,
        "versor": versor,
        "affine": affine,
        "similarity of scale 1": similar,
        "composite of one": sitk.CompositeTransform([euler]),
        "composite of two": sitk.CompositeTransform([sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), euler]),
    }


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".txt", ".mat"])
@pytest.mark.parametrize("kind", list(rigid_transforms()))
def test_transforms_of_itk_map_as_they_do_there(kind, suffix, tmp_path):
    if kind.startswith("composite") and suffix == ".mat":
        pytest.skip("ITK writes no composite transforms as .mat")
    transform = rigid_transforms()[kind]
    sitk.WriteTransform(transform, str(tmp_path / f"a{suffix}"))
    found = read_pose(tmp_path / f"a{suffix}")
    lps = np.array([-1, -1, 1])
    for point_carm in ([0.0, 0, 0], [50.0, -20, 30], [-80.0, 10, 5]):
        there = np.array(transform.TransformPoint(point_carm)) * lps  # of the CTA
        np.testing.assert_allclose(pose.transform(found, there[None])[0], np.array(point_carm) * lps, atol=1e-9)


@pytest.mark.parametrize("kind", ["AffineTransform_float_3_3", "MatrixOffsetTransformBase_double_3_3"])
def test_affines_of_ants(kind, tmp_path):
    """AntsRegistration's 0GenericAffine.mat is a Matlab file of version 4; older tools write text."""
    from scipy.io import savemat

    affine = rigid_transforms()["affine"]
    numbers = np.float32 if "float" in kind else np.float64
    parameters = np.array(affine.GetParameters(), numbers)
    centre = np.array(affine.GetCenter(), numbers)
    savemat(tmp_path / "0GenericAffine.mat", {kind: parameters[:, None], "fixed": centre[:, None]}, format="4")
    (tmp_path / "Affine.txt").write_text(
        f"#Insight Transform File V1.0\n#Transform 0\nTransform: {kind}\nParameters: {' '.join(map(str, parameters))}\n"
        f"FixedParameters: {' '.join(map(str, centre))}\n"
    )
    sitk.WriteTransform(affine, str(tmp_path / "a.tfm"))
    for name in ("0GenericAffine.mat", "Affine.txt"):
        np.testing.assert_allclose(read_pose(tmp_path / name), read_pose(tmp_path / "a.tfm"), atol=1e-5)


@pytest.mark.parametrize("suffix", [".tfm", ".mat"])
def test_what_scales_or_shears_is_refused(suffix, tmp_path):
    similar = sitk.Similarity3DTransform()
    similar.SetScale(1.02)
    sheared = sitk.AffineTransform([1, 0.1, 0, 0, 1, 0, 0, 0, 1], (0, 0, 0))
    for transform in (similar, sheared):
        sitk.WriteTransform(transform, str(tmp_path / f"a{suffix}"))
        with pytest.raises(InputError, match="not rigid"):
            read_pose(tmp_path / f"a{suffix}")


def test_bare_numbers_and_flat_transforms_are_refused(tmp_path):
    np.savetxt(tmp_path / "fsl.mat", np.eye(4))
    with pytest.raises(InputError, match="Bare numbers"):
        read_pose(tmp_path / "fsl.mat")
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    with pytest.raises(InputError, match="linear 3D"):
        read_pose(tmp_path / "flat.tfm")
