"""Files that crash their libraries, names that no system has, a folder that is gone: each is refused in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from DeepIterRegLib.cases.table import missing_paths, read_cases
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.own_process import arrays_of
from DeepIterRegLib.common.user_input import exists, matrix_file
from DeepIterRegLib.geometry.markup_files import read_markup_lists
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.archive import unpacked
from DeepIterRegLib.images.placement import check_spacing
from DeepIterRegLib.results.roadmap.files import read_model, read_swc

READER = """
import os, resource, sys
import numpy as np
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.own_process import answer
def read(path):
    os.write(1, b"noise of a library")
    word = path.read_text()
    if word == "refuse": raise InputError("It is blue.")
    if word == "die": os.kill(os.getpid(), 11)
    if word == "fill": np.ones((1 << 27,))
    if word == "work":
        resource.setrlimit(resource.RLIMIT_CPU, (1, -1))
        while True: pass
    return {"a": np.arange(3), "limits": np.array([resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)])}
answer(read)
"""


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("whole", None),
        ("refuse", "It is blue."),
        ("die", "It died."),
        ("fill", "It died."),
        (
            "work",
            "a.txt is damaged: it takes longer to read than a file of 0.0 MB can. Copy it again, or save it again.",
        ),
    ],
)
def test_a_file_read_in_a_process_of_its_own(word: str, says: str | None, tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(READER)
    (tmp_path / "a.txt").write_text(word)
    ask = lambda: arrays_of(str(tmp_path / "reader.py"), tmp_path / "a.txt", "a.txt", "It died.")  # noqa: E731
    if says is None:
        found = ask()
        np.testing.assert_array_equal(found["a"], [0, 1, 2])
        memory, seconds = found["limits"]
        assert 0 < memory < 1.01 * (1 << 30)
        assert 0 < seconds < 10
        return
    with pytest.raises(InputError) as caught:
        ask()
    assert caught.value.problems == (says,)


@pytest.mark.parametrize("suffix", [".h5", ".mat"])
def test_damaged_transforms_are_refused_without_a_word_of_the_library(
    suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteTransform(sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (5.0, 6.0, 7.0)), str(path))
    np.testing.assert_allclose(np.linalg.det(read_pose(path)[:3, :3]), 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=f"a{suffix}"):
        read_pose(path)
    assert capfd.readouterr() == ("", "")


def test_paths_that_no_system_has_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(f"name,cta,dsa,cta_mask\na,{'x' * 5000}.nii,b\0.dcm,{'y' * 300}:2\n")
    (case,) = read_cases(tmp_path / "cases.csv")
    assert len(missing_paths([case])) == 3
    assert not exists(Path("a\0b"))
    assert not exists(tmp_path / ("x" * 5000))


def test_cells_without_end(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(f"name,cta,dsa\na,{'x' * 140_000},b\n")
    with pytest.raises(InputError, match="over 131,072 letters"):
        read_cases(tmp_path / "cases.csv")
    (tmp_path / "a.fcsv").write_text(f"0,1,2,3,{'x' * 140_000}\n")
    with pytest.raises(InputError, match="no line of a table"):
        read_markup_lists(tmp_path / "a.fcsv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 2 3 4\n5 6 7 8\n", "2 rows of 4"),
        ("1 2 3 4\n5 6 7 8\n9 10 11\n", "3 rows of 3 and 4"),
        ("1 2 3 Doe\n5 6 7 8\n9 10 11 12\n", "one of them is no number"),
        ("1 2 3 1e999\n5 6 7 8\n9 10 11 12\n", "one of them is no number"),
        ("", "0 rows of no"),
        ("1 " * 200_000, "cannot be read"),
    ],
)
def test_matrices_that_are_none(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        matrix_file(tmp_path / "m.txt", "projection_matrix")
    assert "Doe" not in str(caught.value)


def test_a_matrix_with_commas_and_comments(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("# of a calibration\n1,2,3,4\n\n5,6,7,8\n9,10,11,12\n")
    np.testing.assert_array_equal(matrix_file(tmp_path / "m.csv", "projection_matrix"), np.arange(1, 13).reshape(3, 4))


def test_things_that_lie_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.swc").write_text("1 2 0 0 1e300 1 -1\n")
    with pytest.raises(InputError, match="not finite, or too large"):
        read_swc(tmp_path / "a.swc")
    (tmp_path / "b.swc").write_text("1 2 0 0 250000 1 -1\n")
    with pytest.raises(InputError, match="250 m from the origin"):
        read_swc(tmp_path / "b.swc")
    pytest.importorskip("vtkmodules")
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 1e9\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(InputError, match="m from the origin"):
        read_model(tmp_path / "a.obj")


@pytest.mark.parametrize("spacing", [(1e-30, 1, 1), (1, 1, 1e6), (0.5, 0.5, 0.001)])
def test_one_axis_of_no_scans_spacing(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="damaged"):
        check_spacing(np.diag([*spacing, 1.0]), (20, 20, 20), "a.nii")
    check_spacing(np.diag([0.5, 0.5, 40.0, 1.0]), (1, 20, 20), "a.nii")  # one slice may be as thick as it likes


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_with_a_damaged_byte(method: int, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(5000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.bin", content)
    damaged = bytearray((tmp_path / "a.zip").read_bytes())
    damaged[2500] ^= 255
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(InputError, match=r"a\.zip is damaged"), unpacked(tmp_path / "a.zip"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the folder that a program stands in")
def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    code = (
        f"import os, sys; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); sys.path.insert(0, {str(ROOT)!r}); "
        "sys.argv = ['deepiterreg', 'info', 'a']; from DeepIterRegLib.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 2
    assert "current folder does not exist" in done.stderr
