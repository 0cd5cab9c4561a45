"""Tables as the spreadsheets of many countries write them, through every reader of tables."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

from DeepIterRegLib.cases.table import read_cases
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import read_json
from DeepIterRegLib.common.tables import read_sheet, table_text
from DeepIterRegLib.common.user_input import number, numbers
from DeepIterRegLib.registration.landmarks import Landmarks, read_landmarks

ROWS = [("Müller", -1.5, 2.5, 3.0, 100.5, 200.0), ("b", 1e1, -0.25, 0.125, 7.0, 8.5)]
HEADER = ("name", "x", "y", "z", "column", "row")


def table(separator: str, decimal: str, end: str = "\n", before: str = "") -> str:
    rows = [[str(cell).replace(".", decimal) for cell in row] for row in ROWS]
    return before + end.join(separator.join(row) for row in [HEADER, *rows]) + end


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (table(",", "."), "utf-8"),
        (table(";", ","), "utf-8"),
        (table(";", ".", "\r\n"), "utf-8-sig"),
        (table("\t", ","), "utf-8"),
        (table("\t", ",", "\r\n"), "utf-16"),  # Excel's Unicode text
        (table(";", ","), "utf-16-le"),
        (table(";", ","), "utf-16-be"),
        (table(";", ",", "\r\n", "sep=;\r\n"), "utf-8"),
        (table("|", ".", "\n", '"sep=|"\n'), "utf-8"),
        (table("\t", ".", "\n", "SEP=\t\n"), "utf-8-sig"),
        (table(",", ".", "\r"), "utf-8"),
    ],
)
def test_landmarks_of_any_spreadsheet(text: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(text.encode(encoding))
    found = read_landmarks(tmp_path / "points.csv")
    assert isinstance(found, Landmarks)
    assert found.names == ("Müller", "b")
    np.testing.assert_array_equal(np.c_[found.points_cta_mm, found.pixels], [row[1:] for row in ROWS])


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("sep=;\nname;x;y;z;column;row\na;1;2;3;4;5\nb;1;2;drei;4;5\n")
    with pytest.raises(InputError, match="line 4: z must be a number"):
        read_landmarks(tmp_path / "points.csv")


def test_another_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_bytes(table(";", ",").encode("cp1252"))
    with pytest.raises(InputError, match=r"line 2 holds a letter of another encoding.*cp1252.*Save it as CSV UTF-8"):
        read_landmarks(tmp_path / "points.csv")


def test_only_a_table_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "pose.json"
    path.write_bytes(b'{"name": "r\xfcckw\xe4rts"}')
    with pytest.raises(InputError, match="line 1 holds a letter of another encoding") as refused:
        read_json(path, "no pose")
    assert "CSV" not in str(refused.value)


def test_a_table_of_cases_with_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(
        "sep=;\nname;cta;dsa;sid;primary_angle;pixel_spacing;principal_point;mask_frames\n"
        "one;a.nii;b.dcm;1200,5;-28,5;0,308;480,512;1,2\n"
        "two;a.nii;b.dcm;1200.5;;0,3 0,2;480,5 512,5;3\n"
        "three;a.nii;b.dcm;1.2005e3;;0.3,0.2;480.5,512.5;3\n"
    )
    one, two, three = (case.job for case in read_cases(tmp_path / "cases.csv"))
    assert one.geometry.sid_mm == two.geometry.sid_mm == three.geometry.sid_mm == 1200.5
    assert one.geometry.primary_angle_deg == -28.5
    assert one.geometry.pixel_spacing_mm == (0.308, 0.308)
    assert two.geometry.pixel_spacing_mm == three.geometry.pixel_spacing_mm == (0.3, 0.2)
    assert one.geometry.principal_point_px == (480, 512)
    assert two.geometry.principal_point_px == three.geometry.principal_point_px == (480.5, 512.5)
    assert one.mask_frames == (0, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        ("1,5", 1.5),
        ("-,5", -0.5),
        (" 2,5e1 ", 25),
        ("1.234,5", None),
        ("1,2,3", None),
        ("nan", None),
        ("", None),
    ],
)
def test_one_number(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "counts", "values"),
    [
        ("0.3", (1, 2), [0.3]),
        ("0.3,0.2", (1, 2), [0.3, 0.2]),
        ("0.3, 0.2", (1, 2), [0.3, 0.2]),
        ("0,3", (1, 2), [0.3]),
        ("0,3 0,2", (1, 2), [0.3, 0.2]),
        ("1,2", (1, 2), [1, 2]),
        ("1,2", (1,), [1.2]),
        ("480,512", (2,), [480, 512]),
        ("480,5 512,5", (2,), [480.5, 512.5]),
    ],
)
def test_numbers_with_commas(text: str, counts: tuple[int, ...], values: list[float]) -> None:
    assert numbers(text, "size", counts) == values


def test_a_cell_without_end_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(InputError, match="is not CSV"):
        read_sheet(tmp_path / "a.csv", "Table", "")


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "=1+1",
            "=cmd|' /C calc'!A0",
            "+49 170",
            "-ish",
            "@SUM(A1)",
            "\uff1d1+1",
            "'=1",
            "''=1",
            "'quoted'",
            "it's =",
            "=",
            "-",
        ),
        *("-1.5", "+3", "1e-3", "-3,5", "a;=1+1", "a\n=1+1", "a,=1", "3 - 2", "", "  plain "),
    ],
)
def test_what_a_spreadsheet_would_compute_is_text_and_comes_back_as_it_was(cell: str, tmp_path: Path) -> None:
    written = table_text(("name", "other"), [(cell, "x")])
    (tmp_path / "cells.csv").write_text(written, encoding="utf-8", newline="")
    (row,) = read_sheet(tmp_path / "cells.csv", "Table", "").rows
    assert row["name"] == cell.strip()
    _, (shown, _) = csv.reader(io.StringIO(written, newline=""))
    for part in re.split("[;\t\n]", shown):  # of whatever country's spreadsheet opens it
        assert not re.match(r"\s*[=+\-@\uff1d].", part) or number(part) is not None
