"""Broken packages: stand-ins beside the real ones, imported by a Python of their own through the command line."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT

from DeepIterRegLib.common.installation import BrokenPackage, broken_package

# Runs with the packages of `sys.argv[1]` before the real ones, as if they were installed there.
RUN = """
import sys, sysconfig
folder = sys.argv[1]
sys.path.insert(0, folder)
real = sysconfig.get_path
sysconfig.get_path = lambda name, *rest, **more: folder if name == "purelib" else real(name, *rest, **more)
sys.argv = ["deepiterreg", *sys.argv[2:]]
from DeepIterRegLib.cli import main
main()
"""


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, str(folder), *words], capture_output=True, text=True, cwd=ROOT, check=False
    )


def package(folder: Path, name: str, content: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "says", "mends"),
    [
        (
            "torch",
            "import torchgen_that_is_gone",
            "its part torchgen_that_is_gone is missing",
            "--force-reinstall --no-deps torch",
        ),
        (
            "pydicom",
            "raise ImportError('numpy.core.multiarray failed to import')",
            "another version of NumPy",
            "--upgrade pydicom",
        ),
    ],
)
def test_the_command_line_says_what_is_broken_and_what_mends_it(
    name: str, content: str, says: str, mends: str, tmp_path: Path
) -> None:
    package(tmp_path / "packages", name, content)
    # The defaults do without torch.
    words = ("register", "cta.nii.gz", "run.dcm", "--preset", "paper", "--quiet", "--out", str(tmp_path / "out"))
    done = command(tmp_path / "packages", *words)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"Error: The Python package {name} ")
    assert says in line
    assert line.endswith(mends) or mends in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def imported(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> BrokenPackage | None:
    real = sysconfig.get_path
    monkeypatch.setattr(
        sysconfig, "get_path", lambda key, *r, **m: str(folder) if key == "purelib" else real(key, *r, **m)
    )
    monkeypatch.syspath_prepend(folder)
    try:
        importlib.import_module(name)
    except Exception as error:
        return broken_package(error)
    raise AssertionError("it was imported")


def test_the_package_that_was_asked_for_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "outer_package", "import inner_package")
    package(tmp_path, "inner_package", "import gone.part")
    assert imported(tmp_path, "outer_package", monkeypatch) == BrokenPackage("outer_package", lacking="gone")


def test_a_library_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "lost_library", "raise OSError('libtorch_cpu.so: cannot open shared object file')")
    found = imported(tmp_path, "lost_library", monkeypatch)
    assert found == BrokenPackage("lost_library")
    assert "fails while it is imported" in found.sentence


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = imported(tmp_path, "package_that_nobody_has", monkeypatch)
    assert found == BrokenPackage("package_that_nobody_has", absent=True)
    assert "not installed" in found.sentence


def caught(function: Callable[[], object]) -> BrokenPackage | None:
    try:
        function()
    except Exception as error:
        return broken_package(error)
    raise AssertionError("it went well")


def test_other_errors_are_not_of_the_installation() -> None:
    assert caught(lambda: json.loads("{")) is None
    assert caught(lambda: [][1]) is None
    assert caught(lambda: Path("/none").read_text()) is None


def test_what_only_some_need_is_said_with_the_extra_that_brings_it() -> None:
    assert "extra network" in BrokenPackage("safetensors", absent=True).sentence
    assert "extra follow" in BrokenPackage("pynetdicom", absent=True).sentence
    assert "extra" not in BrokenPackage("numba", absent=True).sentence
    assert "extra" not in BrokenPackage("torch", lacking="torch._C").sentence


def test_numpy_of_another_time() -> None:
    def use() -> None:
        raise RuntimeError("Numpy is not available")  # torch built for NumPy 1 says so under NumPy 2, at first use

    found = caught(use)
    assert found == BrokenPackage("torch", other_numpy=True)
    assert "built for another version of NumPy" in found.sentence
