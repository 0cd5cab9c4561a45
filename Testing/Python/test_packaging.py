"""The package: what it imports, declares, ships and says about itself."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import DeepIterRegLib

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "DeepIterRegLib"
SOURCES = sorted(LIBRARY.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def distribution(requirement: str) -> str:
    """Name of a requirement as distributions are compared (PEP 503)."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found.group()).lower()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_library_is_free_of_slicer(path: Path) -> None:
    assert not imported(path) & {"slicer", "qt", "ctk", "mrml", "vtkSlicer"}


def test_everything_imported_is_declared() -> None:
    """Every third-party import is a dependency; DiffDRR alone is installed beside them, without its own dependencies."""
    provided = importlib.metadata.packages_distributions()
    declared = {distribution(r) for r in PROJECT["dependencies"]} | {"diffdrr"}
    training = {LIBRARY / "network" / name for name in ("training.py", "curves.py")}
    plots = {LIBRARY / "evaluation" / name for name in ("plots.py", "experiment.py", "paper_b.py")}
    extra = {distribution(r) for r in PROJECT["optional-dependencies"]["train"]}
    assert set().union(*map(imported, training)) & {"lightning", "matplotlib"}
    assert "lightning" in extra
    names = (
        set().union(*(imported(path) for path in SOURCES if path not in training | plots))
        - set(sys.stdlib_module_names)
        - {"DeepIterRegLib"}
    )
    missing = {
        name: provided.get(name) for name in names if not {distribution(d) for d in provided.get(name, ())} & declared
    }
    # markupsafe is jinja2's own string type and comes with it.
    assert set(missing) <= {"markupsafe"}, missing


def test_version_is_one() -> None:
    assert importlib.metadata.version("deepiterreg") == DeepIterRegLib.__version__
    assert f"[{DeepIterRegLib.__version__}]" in (ROOT / "CHANGELOG.md").read_text(
        encoding="utf-8"
    ) or "[Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", ["import DeepIterRegLib", "import DeepIterRegLib.cli"])
def test_nothing_heavy_is_imported_early(code: str) -> None:
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {
        "torch",
        "numpy",
        "scipy",
        "SimpleITK",
        "numba",
        "pydicom",
        "skimage",
        "diffdrr",
        "matplotlib",
        "vtk",
        "PIL",
    }
    assert not heavy & set(json.loads(done.stdout))


def test_wheel_ships_every_file_of_the_library(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build", "out", "Testing", "DeepIterReg")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(tmp_path), str(tmp_path / "source")], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
        metadata = archive.read(next(n for n in shipped if n.endswith("METADATA"))).decode()
    wanted = {
        str(path.relative_to(ROOT))
        for path in LIBRARY.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert wanted <= shipped
    assert not [name for name in shipped - wanted if ".dist-info/" not in name]
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
    assert "License-Expression: Apache-2.0" in metadata


def test_research_use_is_said_where_people_look() -> None:
    for path in ("README.md", "DeepIterRegLib/cli/app.py", "DeepIterRegLib/report/page.html", "pyproject.toml"):
        text = " ".join((ROOT / path).read_text(encoding="utf-8").split()).lower()
        assert "research use only" in text, path
        assert "not a medical device" in text, path


def test_make_demo_calls_the_command_with_options_it_has():
    """The README's first command once died on an unknown option: every option in its line must be one of `demo`'s."""
    import typer

    from DeepIterRegLib.cli import app

    root = Path(__file__).parents[2]
    (line,) = re.findall(r"deepiterreg (demo .*)", (root / "Makefile").read_text(encoding="utf-8"))
    command = typer.main.get_command(app).commands["demo"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in line.split() if word.startswith("-")} <= known
