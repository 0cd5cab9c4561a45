"""Files as hospitals hand them over: each is read as the plain ones are, or refused in one sentence, by the library's own doors."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from awkward_inputs import CASES, Awkward, Made, Plain, leaks
from scipy import ndimage
from typer.testing import CliRunner

from DeepIterRegLib.cli import EXIT_INPUT, app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.head import HeadCta
from DeepIterRegLib.images.masks import read_mask
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.landmarks import PlacedLandmarks, read_landmarks
from DeepIterRegLib.segmentation.cta.mask import as_cta_mask

STEP = 3  # of the CTA's voxels: the small phantom then has 3 mm
LARGEST_CENTRE_MM = 3.0  # between the head's centre found in the plain CTA and in one with more below


@pytest.fixture(scope="module")
def plain(patient_folder: Path) -> Plain:
    return Plain(patient_folder, STEP)


# -- the plain files, read once ---------------------------------------------------------------------------


@cache
def plain_head(folder: Path) -> HeadCta:
    plain = Plain(folder, STEP)
    return prepare_cta(Volume(plain.hu.transpose(2, 1, 0), plain.affine))


@cache
def whole_head(folder: Path) -> HeadCta:
    return prepare_cta(load_volume(folder / "cta.nii.gz"))


@cache
def plain_mask(folder: Path) -> np.ndarray:
    return as_cta_mask(load_volume(folder / "arteries.nii.gz"), whole_head(folder)).voxels


@cache
def plain_run(folder: Path) -> Angiogram:
    return read_angiogram(folder / "dsa.dcm")


# -- each door: what is read, compared with what the plain files give; the notes -----------------------------


def check_cta(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    found = prepare_cta(load_volume(typed[0]))
    if case.outcome == "refused":
        return ()
    reference = plain_head(plain.folder)
    voxels, affine = made.shows or (reference.voxels.transpose(2, 1, 0), reference.affine)
    same_voxels(found, voxels, affine, case)
    if made.shows is None and found.values == "HU":
        assert np.linalg.norm(found.centre_mm - reference.centre_mm) < LARGEST_CENTRE_MM
    return found.notes


def same_voxels(found: Volume, voxels: np.ndarray, affine: np.ndarray, case: Awkward) -> None:
    """Every third voxel (i, j, k) is in `found`, at its place in RAS, with its value."""
    indices = np.argwhere(np.ones([-(-n // 3) for n in voxels.shape])) * 3
    places = indices @ affine[:3, :3].T + affine[:3, 3]
    at = np.linalg.solve(found.affine[:3, :3], (places - found.affine[:3, 3]).T)[::-1]
    nearest = np.rint(at).astype(int)
    within = ((nearest >= 0) & (nearest < np.array(found.voxels.shape)[:, None])).all(axis=0)
    assert within.mean() > (0.8 if case.alike else 0.999)
    expected = voxels[tuple(indices[within].T)]
    if case.alike:
        got = ndimage.map_coordinates(found.voxels.astype(np.float32), at[:, within], order=1, mode="nearest")
        assert np.corrcoef(got, expected)[0, 1] > 0.99
    else:
        assert np.abs(at - nearest)[:, within].max() < case.off
        np.testing.assert_array_equal(found.voxels[tuple(nearest[:, within])], expected)


def check_dsa(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    found, expected = read_angiogram(typed[0]), plain_run(plain.folder)
    if case.outcome == "refused":
        return ()
    if case.alike:
        same_content(found, expected)
    else:
        np.testing.assert_array_equal(found.frames, expected.frames)
        np.testing.assert_array_equal(found.valid, expected.valid)
        np.testing.assert_allclose(found.frame_times_s, expected.frame_times_s, atol=1e-6)
        same_view(found, expected)
    return found.notes


def same_view(found: Angiogram, expected: Angiogram) -> None:
    np.testing.assert_allclose(found.carm.projection_matrix, expected.carm.projection_matrix, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.carm.pixel_spacing_mm, expected.carm.pixel_spacing_mm)


def same_content(found: Angiogram, expected: Angiogram) -> None:
    """Vessels are dark, and in the same pixels; the times between frames; the view, where tags contradict by another reading."""
    dark, reference = found.frames.min(axis=0), expected.frames.min(axis=0)
    halved = reference.shape[0] // dark.shape[0]
    dark = np.kron(dark, np.ones((halved, halved)))
    vessels = expected.valid & (reference < np.percentile(reference[expected.valid], 2))
    assert np.median(dark[vessels]) < np.percentile(dark[expected.valid & ~vessels], 10) < 0
    n = min(len(found.frame_times_s), len(expected.frame_times_s))
    span = found.frame_times_s[-1] - found.frame_times_s[0]
    usual = np.median(np.diff(expected.frame_times_s))
    assert np.median(np.diff(found.frame_times_s)) == pytest.approx(usual, abs=2e-3)
    assert span == pytest.approx(usual * (n - 1), abs=1.5 * usual)
    if halved == 1:
        same_view(found, expected)
        return
    (other,) = found.other_readings
    assert other.always
    size_mm = np.array(other.read().carm.pixel_spacing_mm) * found.frames.shape[1:]
    np.testing.assert_allclose(size_mm, np.array(expected.carm.pixel_spacing_mm) * expected.frames.shape[1:])


def check_mask(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    found = as_cta_mask(read_mask(typed[0], "cta_mask"), whole_head(plain.folder))
    if case.outcome == "refused":
        return ()
    expected = plain_mask(plain.folder)
    if case.alike:
        assert (found.voxels & expected).sum() > 0.85 * expected.sum()
    else:
        np.testing.assert_array_equal(found.voxels, expected)
    return found.notes


def check_landmarks(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    found = read_landmarks(typed[0], typed[1] if len(typed) > 1 else None, plain.carm.pixel_spacing_mm)
    if case.outcome == "refused":
        return ()
    if isinstance(found, PlacedLandmarks):
        found = found.on(plain.carm)
    np.testing.assert_allclose(found.points_cta_mm, plain.points_mm, atol=1e-4)
    np.testing.assert_allclose(found.pixels, plain.pixels, atol=1e-4)
    return ()


def check_pose(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    found = read_pose(typed[0])
    if case.outcome != "refused":
        np.testing.assert_allclose(found, plain.cta_to_carm, atol=1e-6)
    return ()


def check_item(case: Awkward, plain: Plain, typed: list[Path], made: Made) -> Iterable[str]:
    """By the command, as a reader of models that dies would take this process with it."""
    out = typed[0].parent.parent / "map.png"
    files = ("--pose", plain.truth, "--like", plain.folder / "dsa.dcm", "--item", f"{typed[0]}:red", "--out", out)
    result = CliRunner().invoke(app, ["project", *map(str, files)])
    assert result.exit_code == EXIT_INPUT, result.output
    assert not out.exists()
    raise InputError(
        [line.removeprefix("Error: ") for line in result.stderr.splitlines() if line.startswith("Error: ")]
    )


DOORS: dict[str, Any] = {
    "cta": check_cta,
    "dsa": check_dsa,
    "cta_mask": check_mask,
    "landmarks": check_landmarks,
    "pose": check_pose,
    "item": check_item,
}


# -- the cases -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a person is, who types paths from there; no message may say where it is."""
    (tmp_path / "people" / "temp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "people")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "people" / "temp"))
    return tmp_path


def discreet(said: Iterable[str], folder: Path) -> None:
    """Nothing of the patient, little of a header, and no folder but as it was typed."""
    for text in said:
        assert not leaks(text), text
        assert str(folder) not in text, text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_read_right_or_refused_in_a_sentence(case: Awkward, plain: Plain, folder: Path) -> None:
    paths, made = case.write(plain, Path("given"))
    typed = [Path(path) for path in paths]
    before = sorted(path for path in folder.rglob("*") if "given" not in path.parts)
    if case.outcome == "refused":
        with pytest.raises(InputError, match=case.says) as caught:
            DOORS[case.door](case, plain, typed, made)
        said = list(caught.value.problems)
        if case.door in ("dsa", "landmarks", "pose"):
            named = {part.name for path in typed for part in (path, *path.glob("*"))}
            assert all(any(name in problem for name in named) for problem in said), said
    else:
        said = list(DOORS[case.door](case, plain, typed, made))
        assert not case.says or any(re.search(case.says, note) for note in said), said
    discreet(said, folder)
    if case.door in ("cta", "dsa"):
        info(case, paths[0], folder)
    assert sorted(path for path in folder.rglob("*") if "given" not in path.parts) == before, (
        "nothing is left or written"
    )


def info(case: Awkward, typed: str, folder: Path) -> None:
    """What `deepiterreg info` says of it: what it would be used as, or, refused, nothing or the same refusal."""
    result = CliRunner().invoke(app, ["info", typed, "--json"])
    discreet([result.stdout, result.stderr], folder)
    if result.exit_code:
        assert (result.exit_code, case.outcome) == (EXIT_INPUT, "refused"), result.output
        if result.stdout:
            assert json.loads(result.stdout)["cannot be used"]
        else:
            assert result.stderr.startswith("Error: ")
        return
    used = json.loads(result.stdout)["used as"]
    assert used.startswith("nothing") if case.outcome == "refused" else used == case.door.upper(), result.stdout
