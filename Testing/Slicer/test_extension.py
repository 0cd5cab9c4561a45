"""What is shipped: CMake's lists against the folders, a tree as Slicer installs it, the catalogue entry, the icon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from repository import ROOT

CMAKE = Path(sys.executable).with_name("cmake")
SHIPPED = Path("lib/Slicer-5.12/qt-scripted-modules")

# What Slicer's and CTK's macros do with their arguments, as far as it decides what is shipped. Written from their documentation.
SLICER_CONFIG = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/end.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/end.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_FOUND TRUE)
"""
USE_FILE = """
macro(ctkMacroCompilePythonScript)
  set(single TARGET_NAME SOURCE_DIR DESTINATION_DIR INSTALL_DIR)
  cmake_parse_arguments(MY "NO_INSTALL_SUBDIR;GLOBAL_TARGET" "${single}" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown: ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(name TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
    if(NOT DEFINED MY_${name})
      message(FATAL_ERROR "${name} is mandatory")
    endif()
  endforeach()
  if(NOT DEFINED MY_SOURCE_DIR)
    set(MY_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  foreach(file ${MY_SCRIPTS} ${MY_RESOURCES})
    get_property(listed GLOBAL PROPERTY MY_LISTED)
    if("${MY_SOURCE_DIR}/${file}" IN_LIST listed)
      message(FATAL_ERROR "${MY_TARGET_NAME}: ${file} is listed twice")
    endif()
    set_property(GLOBAL APPEND PROPERTY MY_LISTED "${MY_SOURCE_DIR}/${file}")
    if(NOT EXISTS ${MY_SOURCE_DIR}/${file} OR IS_DIRECTORY ${MY_SOURCE_DIR}/${file})
      message(FATAL_ERROR "${MY_TARGET_NAME}: there is no file ${file}")
    endif()
    configure_file(${MY_SOURCE_DIR}/${file} ${MY_DESTINATION_DIR}/${file} COPYONLY)
  endforeach()
endmacro()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MINE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MINE_UNPARSED_ARGUMENTS OR NOT DEFINED MINE_NAME)
    message(FATAL_ERROR "Unknown: ${MINE_UNPARSED_ARGUMENTS}")
  endif()
  ctkMacroCompilePythonScript(
    TARGET_NAME ${MINE_NAME}
    SCRIPTS ${MINE_SCRIPTS}
    RESOURCES ${MINE_RESOURCES}
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    NO_INSTALL_SUBDIR)
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  get_filename_component(test_name ${MY_SCRIPT} NAME_WE)
  if(NOT EXISTS ${MY_SCRIPT} AND NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT})
    message(FATAL_ERROR "Test of a script that is not there: ${MY_SCRIPT}")
  endif()
  file(APPEND ${CMAKE_BINARY_DIR}/tests.txt "py_${MY_TESTNAME_PREFIX}${test_name} ${MY_SLICER_ARGS}\\n")
endmacro()

macro(slicer_add_python_test)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS;SCRIPT_ARGS" ${ARGN})
  slicer_add_python_unittest(SCRIPT ${MY_SCRIPT} SLICER_ARGS ${MY_SLICER_ARGS} ${MY_SCRIPT_ARGS})
endmacro()
"""
# `project` asks for compilers, which nothing here needs.
OUTER = """
cmake_minimum_required(VERSION 3.20)
cmake_policy(SET CMP0057 NEW)
project(Outer NONE)
set(BUILD_TESTING ON)
macro(project name)
  set(PROJECT_NAME ${name})
endmacro()
add_subdirectory("@ROOT@" inner)
get_directory_property(depends DIRECTORY "@ROOT@" DEFINITION EXTENSION_DEPENDS)
get_directory_property(name DIRECTORY "@ROOT@" DEFINITION PROJECT_NAME)
file(WRITE ${CMAKE_BINARY_DIR}/extension.txt "${name};${depends}")
"""


def build(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Configure the extension against stubs of Slicer's macros, which copy what is listed."""
    config = folder / "slicer"
    config.mkdir(parents=True)
    (config / "SlicerConfig.cmake").write_text(SLICER_CONFIG)
    (config / "use.cmake").write_text(USE_FILE)
    (config / "end.cmake").write_text("")
    (folder / "outer").mkdir()
    (folder / "outer/CMakeLists.txt").write_text(OUTER.replace("@ROOT@", source.as_posix()))
    command = [str(CMAKE), "-S", str(folder / "outer"), "-B", str(folder / "build"), f"-DSlicer_DIR={config}"]
    return subprocess.run([*command, "-Wno-dev"], capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder / "build"


def tracked(folder: Path) -> set[str]:
    """Files below a folder of the checkout: those that git knows, so that a stray one is seen; all of them where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z", folder.name], capture_output=True, text=True, cwd=folder.parent)
    if listed.returncode == 0:
        return {name for name in listed.stdout.split("\0") if name and (folder.parent / name).is_file()}
    return {
        path.relative_to(folder.parent).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# In Resources but not for Slicer: the pages, their pictures, and how the icon is drawn.
NOT_SHIPPED = ("Resources/Docs/", "Resources/Screenshots/", "Resources/Icons/draw_icon.py")


def expected() -> set[str]:
    """Every file that Slicer needs: library, module with its package and script, and the resources it opens."""
    module = {name.removeprefix("DeepIterReg/") for name in tracked(ROOT / "DeepIterReg") if "/Testing/" not in name}
    resources = {name for name in tracked(ROOT / "Resources") if not name.startswith(NOT_SHIPPED)}
    return tracked(ROOT / "DeepIterRegLib") | {n for n in module if not n.endswith(".txt")} | resources


def shipped(installed: Path) -> set[str]:
    """Files in the folder that Slicer would search for modules."""
    tree = installed / SHIPPED
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


def test_what_is_shipped_is_what_the_repository_holds(installed: Path) -> None:
    missing, stray = sorted(expected() - shipped(installed)), sorted(shipped(installed) - expected())
    assert not missing, (
        f"Not shipped: give its kind a pattern in CMakeLists.txt or DeepIterReg/CMakeLists.txt: {missing}"
    )
    assert not stray, f"Shipped, but not in the repository: {stray}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what CMake reads, to be broken."""
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "bench-cache", "out", "Testing", "Docs", "Screenshots")
    shutil.copytree(ROOT, source, ignore=ignore)
    shutil.copytree(ROOT / "DeepIterReg/Testing", source / "DeepIterReg/Testing")
    return source


def test_a_missing_or_stray_file_is_seen(checkout: Path, tmp_path: Path) -> None:
    (checkout / "DeepIterRegLib/registration/pipeline.py").unlink()
    (checkout / "DeepIterReg/DeepIterRegSlicer/panel/scratch.py").touch()
    done = build(checkout, tmp_path / "stubs")
    assert done.returncode == 0, done.stderr
    tree = shipped(tmp_path / "stubs/build")
    assert expected() - tree == {"DeepIterRegLib/registration/pipeline.py"}
    assert tree - expected() == {"DeepIterRegSlicer/panel/scratch.py"}


def test_a_file_listed_twice_is_refused(checkout: Path, tmp_path: Path) -> None:
    lists = checkout / "CMakeLists.txt"
    text = lists.read_text(encoding="utf-8")
    lists.write_text(
        text.replace(
            "ctkMacroCompile", "list(APPEND LIBRARY_PYTHON_SCRIPTS DeepIterRegLib/__init__.py)\nctkMacroCompile"
        )
    )
    done = build(checkout, tmp_path / "stubs")
    assert done.returncode != 0
    assert "DeepIterRegLib/__init__.py is listed twice" in done.stderr


def test_ctest_entries(installed: Path) -> None:
    tests = dict(line.split(maxsplit=1) if " " in line else (line, "") for line in read(installed / "tests.txt"))
    assert set(tests) == {"py_DeepIterReg", "py_nomainwindow_DeepIterReg", "py_register_cases", "py_walk"}
    assert "--no-main-window" in tests["py_nomainwindow_DeepIterReg"]
    assert "--no-main-window" not in tests["py_walk"], "it looks at what a person sees"


def read(path: Path) -> list[str]:
    return [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]


def in_installed_tree(installed: Path, code: str, **environment: str) -> Any:
    """Run code with only the installed tree and the stand-in in sight, away from the checkout; its last line as JSON."""
    tree = installed / SHIPPED
    lines = f"import sys\nsys.path[:0] = [{str(tree)!r}, {str(ROOT / 'Testing/Slicer')!r}]\n"
    command = [sys.executable, "-c", lines + code.replace("TREE", str(tree))]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=tree,
        env={"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_module_works_from_an_installed_tree(installed: Path) -> None:
    """The library is found beside the module, and so are panel, icon and requirements."""
    code = """
import json, standin
standin.install()
module = standin.loadModule("TREE/DeepIterReg.py")
import DeepIterReg, DeepIterRegLib, DeepIterRegSlicer
from DeepIterRegSlicer import dependencies
widget = module.widgetRepresentation()
found = [m.__file__ for m in (DeepIterReg, DeepIterRegLib, DeepIterRegSlicer)]
found += [DeepIterReg.resourcePath("UI/DeepIterReg.ui"), str(dependencies.requirementsFile())]
assert not standin.slotErrors, standin.slotErrors
print(json.dumps(found))
"""
    found = in_installed_tree(installed, code)
    assert [path for path in found if not path.startswith(str(installed))] == []
    assert all(Path(path).is_file() for path in found)


def test_batch_script_works_from_an_installed_tree(installed: Path, tmp_path: Path) -> None:
    script = installed / SHIPPED / "Scripts/register_cases.py"
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--cases" in done.stdout


def test_only_modules_lie_beside_the_module() -> None:
    """Slicer takes every .py in the folder for a module."""
    assert [path.name for path in (ROOT / "DeepIterReg").glob("*.py")] == ["DeepIterReg.py"]


def test_starting_slicer_loads_nothing_heavy(installed: Path) -> None:
    """Slicer imports every module file when it starts: no third-party package but numpy and vtk, which it has."""
    code = """
import json, sys
import standin
standin.install()
import numpy, vtk
from vtk.util import numpy_support
before = set(sys.modules)
standin.loadModule("TREE/DeepIterReg.py")
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps(sorted(new)))
"""
    new = in_installed_tree(installed, code)
    assert set(new) <= {"DeepIterReg", "DeepIterRegLib", "DeepIterRegSlicer", "standin", "SimpleITK"}


# -- what the catalogue is told ---------------------------------------------------------------------


def extension(name: str) -> str:
    found = re.search(rf'set\({name} "([^"]*)"\)', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert found, name
    return found.group(1)


def test_catalogue_entry(installed: Path) -> None:
    raw = (ROOT / "DeepIterReg.json").read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    optional = {
        "scm_revision",
        "scm_type",
        "build_dependencies",
        "build_subdirectory",
        "dicom_support_rule",
        "enabled",
        "tier",
    }
    assert {"$schema", "category", "scm_url"} <= set(entry) <= {"$schema", "category", "scm_url"} | optional
    assert entry["category"] == "Registration"
    assert entry["scm_url"].rpartition("/")[2].startswith("Slicer")
    name, *depends = (installed / "extension.txt").read_text().split(";")
    assert name == "DeepIterReg"
    assert depends == entry["build_dependencies"] == ["PyTorch"]


def test_metadata_points_at_files_of_this_repository() -> None:
    home = extension("EXTENSION_HOMEPAGE")
    prefix = home.replace("github.com", "raw.githubusercontent.com") + "/main/"
    for url in (extension("EXTENSION_ICONURL"), *extension("EXTENSION_SCREENSHOTURLS").split()):
        assert url.startswith(prefix)
        with Image.open(ROOT / url.removeprefix(prefix)) as image:
            image.load()
    assert "research use only" in extension("EXTENSION_DESCRIPTION").lower()
    assert extension("EXTENSION_DESCRIPTION").count(". ") <= 1


def test_icon() -> None:
    with Image.open(ROOT / "Resources/Icons/DeepIterReg.png") as icon:
        assert icon.size == (128, 128)
        assert icon.mode == "RGBA"
        assert icon.getpixel((0, 0))[3] == 0
        small = np.asarray(icon.resize((24, 24)).convert("RGB"), dtype=int)
    vessels = small[..., 0] - small[..., 1:].max(axis=-1) > 100
    assert 0.08 < vessels.mean() < 0.4  # still to be seen at 24 px
