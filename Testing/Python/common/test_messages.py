"""Messages are data: each face names the options concerned in its own words."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from pathlib import Path

import pytest
import typer

from DeepIterRegLib.cases.table import FACE as TABLE
from DeepIterRegLib.cli import app
from DeepIterRegLib.cli.options import FACE as COMMAND_LINE
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Face, Message, Remedy, within, word
from DeepIterRegLib.common.options import OPTIONS

LIBRARY = Path(__file__).resolve().parents[3] / "DeepIterRegLib"
PANEL = Face(
    lambda option: {"sid": '"Source to detector"', "device": '"Device"'}.get(option, ""),
    "Set {name}.",
    "Set {name} to {value}.",
)


@pytest.mark.parametrize(
    ("message", "on_command_line", "in_table", "in_panel"),
    [
        (
            Message("No SID: DistanceSourceToDetector (0018,1110) is absent", give=("sid",)),
            "No SID: DistanceSourceToDetector (0018,1110) is absent. Give --sid.",
            "No SID: DistanceSourceToDetector (0018,1110) is absent. Fill column sid.",
            'No SID: DistanceSourceToDetector (0018,1110) is absent. Set "Source to detector".',
        ),
        (
            Message("CUDA is asked for, but there is none", give=(Remedy("device", "cpu"),)),
            "CUDA is asked for, but there is none. Give --device cpu.",
            "CUDA is asked for, but there is none. Fill column device with cpu.",
            'CUDA is asked for, but there is none. Set "Device" to cpu.',
        ),
        (
            Message("-3 is not a whole number from 0", at="seed"),
            "--seed: -3 is not a whole number from 0.",
            "Column seed: -3 is not a whole number from 0.",
            "-3 is not a whole number from 0.",
        ),
        (
            Message("It shows no vessel", advice="Another run is needed.", give=("dsa_mask", "sid")),
            "It shows no vessel. Another run is needed. Give --dsa-mask or --sid.",
            "It shows no vessel. Another run is needed. Fill column dsa_mask or column sid.",
            'It shows no vessel. Another run is needed. Set "Source to detector".',
        ),
    ],
)
def test_each_face_words_the_same_message(message: Message, on_command_line: str, in_table: str, in_panel: str) -> None:
    assert word(message, COMMAND_LINE) == on_command_line
    assert word(message, TABLE) == in_table
    assert word(message, PANEL) == in_panel


def test_words_around_a_message_leave_it_what_it_is() -> None:
    inner = Message("There is none", at="sid", give=("sid",))
    around = within(within(inner, "DSA 2: "), "Row 3, ", " Nothing was done.")
    assert word(around, COMMAND_LINE) == "Row 3, DSA 2: --sid: There is none. Give --sid. Nothing was done."
    assert within("Plain.", "DSA 2: ", " So.") == "DSA 2: Plain. So."
    assert word("Plain.", COMMAND_LINE) == "Plain."


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copied", "pickled"])
def test_a_message_stays_whole_on_its_way_between_processes(again: object) -> None:
    message = Message(
        "There is none", at="sid", advice="So.", give=(Remedy("device", "cpu"),), before="A: ", after=" B."
    )
    made: Message = again(message)  # type: ignore[operator]
    assert made == message
    assert (
        word(made, COMMAND_LINE) == word(message, COMMAND_LINE) == "A: --sid: There is none. So. Give --device cpu. B."
    )


def test_a_message_is_its_neutral_words() -> None:
    """So it goes into JSON, pages and logs: options by their ids, as in tables and settings."""
    message = Message("There is none", give=("sid",))
    assert json.loads(json.dumps({"warnings": [message]})) == {"warnings": ["There is none. Give `sid`."]}
    with pytest.raises(InputError, match=r"^There is none\. Give `sid`\.$"):
        raise InputError(message)


def texts(tree: ast.AST) -> list[tuple[int, str]]:
    """String constants of a file that are no docstrings."""
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, described) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


SOURCES = [path for path in sorted(LIBRARY.rglob("*.py")) if "cli" not in path.relative_to(LIBRARY).parts]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_no_text_of_the_library_speaks_of_the_command_line(path: Path) -> None:
    found = texts(ast.parse(path.read_text(encoding="utf-8")))
    assert [text for text in found if re.search(r"--[a-z]|`?deepiterreg (register|segment|info|batch)", text[1])] == []


def test_every_option_that_a_message_names_is_one() -> None:
    """By the ids in the sources: declared options, and what the commands take besides."""
    commands = typer.main.get_command(app)
    groups = [commands, commands.commands["study"]]  # type: ignore[attr-defined]
    known = {p.name for group in groups for one in group.commands.values() for p in one.params} | set(OPTIONS)
    named = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Message", "Remedy"):
                parts = [k.value for k in node.keywords if k.arg in ("at", "give")]
                parts += node.args[:1] if getattr(node.func, "id", "") == "Remedy" else []
                for part in parts:
                    items = part.elts if isinstance(part, ast.Tuple) else [part]
                    named |= {item.value for item in items if isinstance(item, ast.Constant)}
    assert {"sid", "device", "out", "cta_mask"} <= named
    assert named - known == set()
