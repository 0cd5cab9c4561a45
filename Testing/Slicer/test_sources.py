"""The module's source: what it imports at Slicer's start, and habits that work with PySide6 and not in Slicer."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT

import panels

SOURCES = [panels.MODULE, *(ROOT / "DeepIterReg" / "DeepIterRegSlicer").rglob("*.py")]


def test_the_module_file_stays_small_and_free_of_numerics() -> None:
    text = panels.MODULE.read_text()
    assert len(text.splitlines()) <= 500
    assert "numpy" not in text
    assert "torch" not in text


def test_loading_the_module_imports_no_third_party_package() -> None:
    """Slicer loads every module when it starts, and brings few packages: only these may be asked for then."""
    code = f"""
import sys
sys.path[:0] = [{str(ROOT / "Testing" / "Slicer")!r}]
import standin
standin.install()
before = set(sys.modules)
standin.loadModule({str(panels.MODULE)!r})
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert found <= {
        "DeepIterReg",
        "DeepIterRegLib",
        "DeepIterRegSlicer",
        "numpy",
        "vtk",
        "vtkmodules",
        "SimpleITK",
        "slicer",
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_scoped_enum_and_no_qt_signal(path: Path) -> None:
    text = path.read_text()
    assert not re.findall(r"\bqt\.\w+\.[A-Z]\w+\.[A-Z]\w+", text)
    assert not re.findall(r"\.exec\(|qt\.(Signal|Slot)\b", text)


def userTexts(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_texts_can_be_translated(path: Path) -> None:
    """No f-string inside `_()`; and what is put into a widget in words went through it."""
    tree = ast.parse(path.read_text())
    assert not [call for call in userTexts(tree) if isinstance(call.args[0], ast.JoinedStr)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
            continue
        if node.targets[0].attr not in ("text", "toolTip", "format", "title") or not isinstance(
            node.value, ast.Constant
        ):
            continue
        assert " " not in str(node.value.value), f"{path.name}: {node.value.value!r} is not translatable"
