"""Where kernels are kept: another state of the sources never finds what was compiled of this one; folders nobody may write in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

# The line integral of a point 500 mm in front of the source, by a kernel that calls one of another file.
CODE = """
import sys
import numpy as np
from DeepIterRegLib.rendering import splat_kernels, voxels
image = np.zeros((8, 8), np.float32)
camera = np.eye(3, 4, dtype=np.float32)
points = np.array([[0, 0, 500]], np.float32)
parts, intrinsics = np.zeros((1, 3), np.float32), np.array([1000, 1000, 4, 4], np.float32)
voxels.splat_voxels(image, points, np.float32(1), camera, parts, intrinsics)
(stats,) = [voxels.splat_voxels.stats]
print(round(float(image.sum()), 6), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), stats.cache_path)
"""


def splatted(package: Path, **environment: str) -> tuple[float, int, int, Path]:
    """The sum of the image, how often the kernel was found compiled, how often not, and where it is kept."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    total, hits, misses, folder = done.stdout.split(maxsplit=3)
    return float(total), int(hits), int(misses), Path(folder.strip())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the library, as another version would be installed over it."""
    shutil.copytree(ROOT / "DeepIterRegLib", tmp_path / "DeepIterRegLib", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_kernel_whose_callee_changed_in_another_file_is_compiled_anew(package: Path) -> None:
    first, hits, misses, folder = splatted(package)
    assert (hits, misses) == (0, 1)
    assert folder.is_relative_to(package / "DeepIterRegLib" / "__pycache__")
    assert splatted(package)[:3] == (first, 1, 0)
    callee = package / "DeepIterRegLib" / "rendering" / "splat_kernels.py"
    before, times = callee.read_text(), callee.stat()
    text = before.replace("return weight * ff", "return 2 * weight * ff")
    assert text != before
    callee.write_text(text)
    os.utime(callee, ns=(times.st_atime_ns, times.st_mtime_ns))  # as from an archive whose files all have one time
    second, hits, misses, elsewhere = splatted(package)
    assert second == pytest.approx(2 * first, rel=1e-5)
    assert (hits, misses) == (0, 1)
    assert elsewhere != folder
    callee.write_text(before)
    assert splatted(package)[1:] == (1, 0, folder)


def test_where_the_code_lies_in_a_folder_nobody_may_write_the_users_cache_is_used(package: Path) -> None:
    """A file in the way of the folder: root may write where others may not."""
    (package / "DeepIterRegLib" / "__pycache__").write_text("")
    of_user = {"XDG_CACHE_HOME": str(package / "cache")}
    folder = splatted(package, **of_user)[3]
    assert folder.is_relative_to(package / "cache" / "deepiterreg")
    assert splatted(package, **of_user)[1:3] == (1, 0)


def test_numbas_own_setting_is_followed(package: Path) -> None:
    chosen = {"NUMBA_CACHE_DIR": str(package / "chosen")}
    assert splatted(package, **chosen)[3].is_relative_to(package / "chosen")
    assert splatted(package, **chosen)[1:3] == (1, 0)


def test_states_of_long_ago_are_dropped(package: Path) -> None:
    old = [package / "DeepIterRegLib" / "__pycache__" / f"kernels-{n}" for n in range(6)]
    for n, folder in enumerate(old):
        folder.mkdir(parents=True)
        os.utime(folder, (n, n))
    splatted(package)
    assert [folder.exists() for folder in old] == [False, False, False, True, True, True]


def test_what_others_may_write_in_is_never_read(package: Path) -> None:
    """Kept kernels are pickles: with neither the code's folder nor the user's cache they lie in a folder that goes with the process."""
    (package / "DeepIterRegLib" / "__pycache__").write_text("")
    (package / "cache").write_text("")
    (package / "shared").mkdir()
    folders = [
        splatted(package, XDG_CACHE_HOME=str(package / "cache"), TMPDIR=str(package / "shared"))[3] for _ in "12"
    ]
    assert folders[0] != folders[1]
    assert not list((package / "shared").iterdir())
