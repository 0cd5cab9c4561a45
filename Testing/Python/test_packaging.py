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
from collections.abc import Mapping
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


# Files that need an extra, and which.
OPTIONAL = {
    "dicom/derived.py": "dicom",
    "evaluation/experiment.py": "plots",
    "evaluation/paper_b.py": "bench",
    "evaluation/plots.py": "plots",
    "evaluation/runner.py": "cluster",
    "export/cameras.py": "roadmap",
    "export/film.py": "video",
    "network/curves.py": "train",
    "network/training.py": "train",
    "reader_study/plots.py": "plots",
    "roadmap/files.py": "roadmap",
}


def in_extra(extra: str) -> set[str]:
    """Distributions of an extra and of those it includes."""
    names: set[str] = set()
    for requirement in PROJECT["optional-dependencies"][extra]:
        inner = re.match(r"deepiterreg\[(.+)\]", requirement)
        names |= set().union(*map(in_extra, inner.group(1).split(","))) if inner else {distribution(requirement)}
    return names


def test_everything_imported_is_declared() -> None:
    """Every third-party import is a dependency or in the file's extra; DiffDRR alone is installed beside them, without its own."""
    provided = importlib.metadata.packages_distributions()
    declared = {distribution(r) for r in PROJECT["dependencies"]} | {"diffdrr"}
    used = {str(path.relative_to(LIBRARY)): undeclared(path, provided, declared) for path in SOURCES}
    assert {file for file, names in used.items() if names} == set(OPTIONAL)
    for file, extra in OPTIONAL.items():
        for name in used[file]:
            assert {distribution(d) for d in provided.get(name, ())} & in_extra(extra), (file, name)


def undeclared(path: Path, provided: Mapping[str, list[str]], declared: set[str]) -> set[str]:
    """What a file imports beyond Python, this library and its dependencies; markupsafe is jinja2's own and comes with it."""
    names = imported(path) - set(sys.stdlib_module_names) - {"DeepIterRegLib", "markupsafe"}
    return {name for name in names if not {distribution(d) for d in provided.get(name, ())} & declared}


def room_of(module: str, rooms: Mapping[str, int]) -> str:
    """Row's name of a module below DeepIterRegLib."""
    return next((name for name in rooms if module == name or module.startswith(name + ".")), module.split(".")[0])


def test_arrows_between_rooms_go_one_way() -> None:
    """Each room has one row in the table, and imports only rooms above."""
    text = (LIBRARY / "README.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in row]
    assert len(names) == len(set(names))
    rooms = {name: number for number, row in enumerate(rows) for name in row}
    present, wrong = set(), []
    for path in SOURCES:
        module = ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        here = room_of(module, rooms)
        if here not in rooms:
            assert here in ("", "errors", "evaluation"), f"{path} has no row"
            continue
        present.add(here)
        for there in {room_of(name, rooms) for name in own_imports(path)}:
            if there in rooms and rooms[there] > rooms[here]:
                wrong.append((here, there))
    assert present == set(rooms)
    assert set(wrong) == {("volume", "dicom")}  # the exception that the table names


def own_imports(path: Path) -> set[str]:
    """Modules of this library that a file imports, at its top or inside functions; below DeepIterRegLib."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= (
                {node.module}
                if node.module != "DeepIterRegLib"
                else {f"DeepIterRegLib.{alias.name}" for alias in node.names}
            )
    return {name.removeprefix("DeepIterRegLib.") for name in names if name.startswith("DeepIterRegLib.")}


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
        "distributed",
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
