"""The package: what it imports, declares, ships and says about itself."""

from __future__ import annotations

import ast
import graphlib
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


# Files that need an extra, and which: most of them the network's, which those of the papers share.
NETWORK = {
    "common/devices.py",
    "cases/project.py",
    "registration/settings.py",
    "rendering/raycast.py",
    "rendering/raycast_torch.py",
    "rendering/raycast_triton.py",
    "rendering/splat.py",
    "rendering/splat_clouds.py",
    *(
        f"registration/network/{name}.py"
        for name in (
            "backbone",
            "batch_draws",
            "batches",
            "loss",
            "model",
            "predict",
            "proposals",
            "samples",
            "view",
            "weights",
        )
    ),
    *(f"registration/compute/{name}.py" for name in ("fused", "operations", "scatter", "tensors")),
    *(f"segmentation/{name}.py" for name in ("cta/joined", "cta/morphology", "cta/tensors", "dsa_tensors")),
    "rendering/splat_triton.py",
    "rendering/triton_check.py",
    *(f"registration/papers/{name}.py" for name in ("first_order", "similarity", "stages")),
    *(f"studies/experiments/paper_b/{name}.py" for name in ("landscape", "methods", "scene")),
}
OPTIONAL = {
    "images/dicom/derived.py": "dicom",
    "images/dicom/segmentation.py": "dicom",
    "studies/experiments/experiment.py": "plots",
    "studies/experiments/paper_b/drr_time.py": "bench",
    "studies/experiments/plots.py": "plots",
    "common/workers.py": "cluster",
    "cases/folder_watch.py": "follow",
    "cases/receiver.py": "follow",
    "results/export/cameras.py": "roadmap",
    "results/export/film.py": "video",
    "registration/network/curves.py": "train",
    "registration/network/training.py": "train",
    "studies/reader_study/plots.py": "plots",
    "results/roadmap/model_files.py": "roadmap",
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
    assert {file for file, names in used.items() if names} == NETWORK | set(OPTIONAL)
    for file, extra in {**dict.fromkeys(NETWORK, "network"), **OPTIONAL}.items():
        for name in used[file]:
            assert {distribution(d) for d in provided.get(name, ())} & in_extra(extra), (file, name)


def undeclared(path: Path, provided: Mapping[str, list[str]], declared: set[str]) -> set[str]:
    """What a file imports beyond Python, this library and its dependencies; markupsafe comes with jinja2, triton with torch for CUDA."""
    names = imported(path) - set(sys.stdlib_module_names) - {"DeepIterRegLib", "markupsafe", "triton"}
    return {name for name in names if not {distribution(d) for d in provided.get(name, ())} & declared}


# The rooms from the ground up: a room imports only from floors below its own. Rooms of one floor know nothing of each other.
FLOORS = (
    {"common"},
    {"geometry"},
    {"images"},
    {"segmentation", "phantom", "rendering"},
    {"registration"},
    {"results"},
    {"cases"},
    {"studies"},
    {"cli"},
)


def module_of(path: Path) -> str:
    """Dotted name below DeepIterRegLib; empty for the package itself."""
    return ".".join(path.relative_to(LIBRARY).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def own_imports(path: Path, *, at_load: bool = False) -> set[str]:
    """Modules of this library that a file imports, below DeepIterRegLib; with `at_load` only those that Python runs with the file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree)) if not at_load else [n for top in tree.body for n in run_with(top)]
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name for name in inner if is_module(name)} or {node.module}
    return {name.removeprefix("DeepIterRegLib.") for name in names if name.startswith("DeepIterRegLib.")}


def run_with(statement: ast.stmt) -> list[ast.AST]:
    """The parts of a statement that run when its file is imported: neither functions' bodies nor imports for types only."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        return []
    return list(ast.walk(statement))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_rooms_import_only_from_floors_below() -> None:
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    rooms = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(floor_of)
    wrong = []
    for path in SOURCES:
        here = module_of(path).partition(".")[0]
        for there in {name.partition(".")[0] for name in own_imports(path)} - {here}:
            if here and floor_of[there] >= floor_of[here]:
                wrong.append(f"{path.relative_to(LIBRARY)} imports {there}")
    assert wrong == []


@pytest.mark.parametrize("name", ["DeepIterRegLib", "DeepIterRegSlicer"])
def test_no_file_imports_itself_through_others(name: str) -> None:
    """No circle among the imports that run when a file is loaded."""
    folder = LIBRARY if name == "DeepIterRegLib" else ROOT / "DeepIterReg" / name
    graph = {}
    for path in folder.rglob("*.py"):
        dotted = ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        graph[dotted] = imported_at_load(path, name, folder)
    order = graphlib.TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the files


def imported_at_load(path: Path, package: str, folder: Path) -> set[str]:
    names = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        for node in run_with(statement):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
                for alias in node.names:
                    inner = folder.joinpath(*node.module.split(".")[1:], alias.name)
                    names.add(
                        f"{node.module}.{alias.name}"
                        if inner.with_suffix(".py").is_file() or inner.is_dir()
                        else node.module
                    )
    return names


# `__init__.py` and `py.typed` are Python's own; README lies with the other pages.
def test_first_level_is_rooms_only() -> None:
    entries = {path.name for path in LIBRARY.iterdir()} - {"__pycache__"}
    assert entries == {room for floor in FLOORS for room in floor} | {"__init__.py", "py.typed"}


def test_files_and_functions_are_short() -> None:
    lines = sorted(path.read_text(encoding="utf-8").count("\n") for path in shipped_sources())
    assert lines[len(lines) // 2] < 130
    files = [*shipped_sources(), *sorted((ROOT / "Testing").rglob("*.py"))]
    assert [path.name for path in files if path.read_text(encoding="utf-8").count("\n") > 500] == []
    long = [
        f"{path.name}: {node.name}"
        for path in shipped_sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 80
    ]
    assert long == []


def shipped_sources() -> list[Path]:
    return [*SOURCES, *sorted((ROOT / "DeepIterReg").rglob("*.py"))]


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
    ignore = shutil.ignore_patterns(
        "__pycache__", ".*", "*.egg-info", "build", "out", "bench-cache", "Testing", "DeepIterReg"
    )
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
    models = {path.name for path in (ROOT / "Resources" / "Models").iterdir()}
    data = {name for name in shipped if ".data/data/" in name}
    assert {name.partition(".data/data/")[2] for name in data} == {f"share/deepiterreg/Models/{m}" for m in models}
    assert not [name for name in shipped - wanted - data if ".dist-info/" not in name]
    assert any(name.endswith("licenses/LICENSE") for name in shipped)
    assert "License-Expression: Apache-2.0" in metadata


def test_git_holds_nothing_that_it_ignores() -> None:
    """A link to a cache, added with everything else, once broke the copy of the sources that a wheel is built from."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert not subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_research_use_is_said_where_people_look() -> None:
    for path in ("README.md", "DeepIterRegLib/cli/app.py", "DeepIterRegLib/results/report/page.html", "pyproject.toml"):
        text = " ".join((ROOT / path).read_text(encoding="utf-8").split()).lower()
        assert "research use only" in text, path
        assert "not a medical device" in text, path


def test_make_demo_calls_the_command_with_options_it_has():
    """The README's first command once died on an unknown option: every option in its line must be one of `demo`'s."""
    import typer

    from DeepIterRegLib.cli import app

    (line,) = re.findall(r"deepiterreg (demo .*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    command = typer.main.get_command(app).commands["demo"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in line.split() if word.startswith("-")} <= known
