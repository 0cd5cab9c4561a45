"""An option is declared once: the command line, the table of cases, the presets and the page of options follow from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from options_page import LABELS, PAGE, labels, page

from DeepIterRegLib.cases.files import RegisterJob
from DeepIterRegLib.cases.table import COLUMNS, read_cases
from DeepIterRegLib.cli import app
from DeepIterRegLib.cli.options import FACE
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.option import Option, options_of, value_of
from DeepIterRegLib.common.options import GROUPS, OPTIONS, GeometryOptions, Refinement, Search
from DeepIterRegLib.registration.settings import RegistrationSettings

IDS = list(OPTIONS)


def command_parameters(name: str) -> dict[str, Any]:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in command.params}


@pytest.mark.parametrize("name", IDS)
def test_command_line_has_the_option(name: str) -> None:
    option, parameter = OPTIONS[name], command_parameters("register")[name]
    if name not in ("cta", "dsa"):  # these two are given by position
        assert parameter.opts == [FACE.name(name)]
    assert parameter.help.startswith(option.help)
    given = parameter.get_default(typer.Context(typer.main.get_command(app)), call=False)
    if not parameter.required and not (option.each and parameter.multiple):
        assert getattr(given, "value", given) == option.default
    if option.unset:
        assert f"Default: {option.unset}." in parameter.help


@pytest.mark.parametrize("name", IDS)
def test_table_has_the_column(name: str) -> None:
    assert COLUMNS[name] == OPTIONS[name].help
    assert (f"{name}2" in COLUMNS) == bool(OPTIONS[name].each or name == "dsa")


def typed_and_held(option: Option) -> tuple[str, Any]:
    """Something to type that is not the default, and what the job then holds."""
    match option.kind:
        case "file":
            return "some/file.nii.gz", Path("some/file.nii.gz")
        case "start":
            return "network", "network"
        case "choice":
            other = next(word for word in option.choices if word != option.default)
            return other, other
        case "yes or no":
            return "yes", True
        case "whole number":
            return "7", 7
        case "number":
            return "55", 55.0
        case "numbers":
            return "3,4", (3.0, 4.0)
        case "point":
            return "3,-4,5", (3.0, -4.0, 5.0)
        case "frames":
            return "1,3", (0, 2)
        case "text":
            return "Head 1.0", "Head 1.0"
    raise AssertionError(option.kind)


@pytest.mark.parametrize("name", [n for n in IDS if n != "projection_matrix"])
def test_command_line_and_table_make_the_same_job(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    option = OPTIONS[name]
    typed, held = typed_and_held(option)
    made: list[RegisterJob] = []

    def seen(job: RegisterJob, *rest: Any, **more: Any) -> None:
        made.append(job)
        raise InputError("That is all that is asked here.")

    monkeypatch.setattr("DeepIterRegLib.cases.files.register_files", seen)
    row = {"name": "a", "cta": "cta.nii", "dsa": "dsa.dcm", name: typed}
    words = ["register", row["cta"], row["dsa"], "--out", str(tmp_path / "out")]
    if name not in ("cta", "dsa"):
        words += [FACE.name(name)] + ([] if option.kind == "yes or no" else [typed])
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert made, result.output
    table = tmp_path / "cases.csv"
    table.write_text(",".join(row) + "\n" + ",".join(f'"{cell}"' for cell in row.values()) + "\n")
    (case,) = read_cases(table)
    assert case.problems == ()
    by_command, by_table = field_of(made[0], name), field_of(case.job, name)
    if option.kind == "file":
        assert by_table == tmp_path / held
        by_table = held
    assert by_command == by_table == held


def field_of(job: RegisterJob, name: str) -> Any:
    for holder in (job, job.geometry):
        for member in fields(holder):
            if (option := member.metadata.get("option")) is not None and option.name == name:
                return getattr(holder, member.name)
    raise AssertionError(name)


@pytest.mark.parametrize("name", options_of(Search, Refinement))
def test_settings_take_it_by_the_same_name_and_default(name: str) -> None:
    usual = RegistrationSettings.preset("default")
    chosen = {name: OPTIONS[name].default} if name != "preset" else {}
    assert RegistrationSettings.preset(OPTIONS["preset"].default, **chosen) == usual


def test_earlier_spelling_is_still_read(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("name,cta,dsa,init\na,cta.nii,dsa.dcm,bone\n")
    (case,) = read_cases(table)
    assert case.job.init == "skull"
    assert "init" not in case.paths


@pytest.mark.parametrize(
    ("name", "typed", "found"),
    [
        ("seed", "-1", r"seed.*-1.* is not a whole number from 0"),
        ("contrast_hu", "900", r"contrast_hu.*900 is not in the range 20 HU? ?to 200 HU|20 to 200 HU"),
        ("device", "gpu", r'device.*"gpu" is not one of auto, cpu, cuda'),
        ("pixel_spacing", "1,2,3", r"pixel_spacing.*1 or 2 numbers separated by a comma are needed"),
        ("mask_frames", "0", r"mask_frames.*frame numbers from 1"),
        ("between_runs", "maybe", r'between_runs.*"maybe" is not one of no, yes'),
        ("refine_geometry", "maybe", r'refine_geometry.*"maybe" is not one of auto, on, off'),
    ],
)
def test_what_cannot_be_used_is_told_with_its_option(name: str, typed: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        value_of(OPTIONS[name], typed, Path())


def test_every_group_is_frozen_and_declares_what_it_holds() -> None:
    for group in GROUPS.values():
        assert group.__dataclass_params__.frozen  # type: ignore[attr-defined]
        for member in fields(group):
            assert "option" in member.metadata or member.type == "GeometryOptions", (group, member.name)
    for option in OPTIONS.values():
        assert option.help.endswith(".")
        assert bool(option.panel) != bool(option.not_in_panel), option.name
        assert option.default == next(
            member.default
            for group in GROUPS.values()
            for member in fields(group)
            if member.metadata.get("option") == option
        )


def test_the_page_of_options_is_made_from_the_declarations() -> None:
    """After a change: make docs."""
    assert PAGE.read_text(encoding="utf-8") == page()
    assert LABELS.read_text(encoding="utf-8") == labels()


def test_geometry_says_which_value_is_not_finite() -> None:
    with pytest.raises(InputError, match=r"`sid`: nan is not finite\.\n`pixel_spacing`: \(0\.3, inf\) is not finite\."):
        GeometryOptions(sid_mm=float("nan"), pixel_spacing_mm=(0.3, float("inf")))
