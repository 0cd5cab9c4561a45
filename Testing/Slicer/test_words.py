"""Every text that a person sees can be translated: it is a literal in `_()`, and none is put together from pieces before."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT

pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")

MODULE = ROOT / "DeepIterReg"
FILES = (MODULE / "DeepIterReg.py", *sorted((MODULE / "DeepIterRegSlicer").rglob("*.py")))
# What is shown: an error, the text of a widget, a title.
SHOWN_CALLS = {"InputError", "setText", "addItem", "SetTitle", "SetXAxisTitle", "SetYAxisTitle", "say", "errorDisplay"}
SHOWN_FIELDS = {"text", "toolTip", "noneDisplay", "placeholderText", "title", "helpText", "acknowledgementText"}


def isTranslated(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "translate")


def bareTexts(node: ast.AST) -> list[str]:
    """Texts of words in an expression that no `_()` holds."""
    if isTranslated(node):
        return []
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) and " " in node.value.strip() else []
    if isinstance(node, ast.JoinedStr):
        text = "".join(part.value for part in node.values if isinstance(part, ast.Constant))
        return [text] if any(letter.isalpha() for letter in text) else []
    return [text for child in ast.iter_child_nodes(node) for text in bareTexts(child)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_texts_are_literals_in_a_translation(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isTranslated(node) and node.func.id == "_":  # type: ignore[attr-defined]
            (text,) = node.args  # type: ignore[attr-defined]
            assert isinstance(text, ast.Constant), f"line {node.lineno}: not a literal"  # type: ignore[attr-defined]
        shown: list[ast.AST] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            shown = list(node.args) if name in SHOWN_CALLS else []
        elif isinstance(node, ast.Assign):
            shown = [node.value] if any(getattr(t, "attr", "") in SHOWN_FIELDS for t in node.targets) else []
        for each in shown:
            assert not bareTexts(each), f"line {node.lineno}: {bareTexts(each)}"  # type: ignore[attr-defined]


# The panel in another language: what `_()` gives is in brackets, and what has none was missed.
PSEUDO = """
import sys
sys.path[:0] = sys.argv[1:5]
import standin
standin.installSlicer()
import slicer
slicer.i18n.tr = lambda text: "[" + text + "]"
standin.install()
import panels, scenes
from DeepIterRegSlicer.scene import fill
from DeepIterRegSlicer.scene.prepare import prepareToShow
standin.newScene()
standin.openViews()
panel = panels.opened()
ui = panel.ui
panels.choose(ui.resultSelector, fill.show(prepareToShow(scenes.helixOutcome(48, 2))).ctaToCarm)
ui.pickCollapsibleButton.collapsed = False
ui.sideBySideCheckBox.click()
names = "applyButton mpeValueLabel confidenceValueLabel timeValueLabel pickResultValueLabel compareMessageLabel placeCtaButton".split()
for name in [*names, "followStartButton", "followNewestButton"]:
    print(name, getattr(ui, name).text, sep="\\t")
boxes = (ui.initComboBox, ui.presetComboBox, ui.comparisonComboBox, ui.viewComboBox, ui.subtractionComboBox)
for box in (*boxes, ui.followSourceComboBox):
    for n in range(box.count):
        print("item", box.itemText(n), sep="\\t")
from DeepIterRegSlicer.panel.steps import stepWords
for words in stepWords().values():
    print("step", words, sep="\\t")
from DeepIterRegLib.common.errors import InputError
for wrong in (dict(seed="x"), dict(vessels="x"), dict(sed=1)):
    try:
        panel.widget.logic.register(None, None, **wrong)
    except InputError as error:
        for problem in error.problems:
            print("error", problem, sep="\\t")
panels.close(panel)
assert not standin.slotErrors, standin.slotErrors
"""


def test_the_panel_in_another_language() -> None:
    paths = [ROOT, MODULE, ROOT / "Testing/Slicer", ROOT / "Testing/Python"]
    done: Any = subprocess.run(
        [sys.executable, "-c", PSEUDO, *map(str, paths)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line]
    assert len(lines) > 40
    missed = [line for line in lines if not line[1].startswith("[")]
    assert not missed
