"""The table of cases: to jobs, from spreadsheets of other countries, and everything wrong with it at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from case_tables import write_table

from DeepIterRegLib.cases.table import missing_paths, read_cases
from DeepIterRegLib.common.errors import InputError


def problems_of(text: str, folder: Path) -> list[str]:
    table = folder / "cases.csv"
    table.write_bytes(text.encode("utf-8"))
    with pytest.raises(InputError) as caught:
        read_cases(table)
    return list(caught.value.problems)


def test_table_becomes_jobs(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "matrix.txt", np.eye(3, 4))
    row = {
        "name": "case 1",
        "cta": "scans/cta.nii.gz",
        "dsa": "/runs/dsa.dcm",
        "init": "start.tfm",
        "pixel_spacing": "0.3, 0.2",
        "primary_angle": "-28.5",
        "sid": "1200",
        "sod": "",
        "mask_frames": "1,2",
        "seed": "7",
        "projection_matrix": "matrix.txt",
    }
    second = {"name": "case2", "cta": "a", "dsa": "b", "init": "search", "preset": "paper", "subtraction": "as_is"}
    columns = tuple(dict.fromkeys([*row, *second]))
    first, other = read_cases(write_table(tmp_path / "cases.csv", row, second, columns=columns), "cpu")
    assert first.job.cta == tmp_path / "scans/cta.nii.gz"
    assert first.job.dsa == Path("/runs/dsa.dcm")
    assert first.job.init == str(tmp_path / "start.tfm")
    assert first.job.geometry.pixel_spacing_mm == (0.3, 0.2)
    assert (first.job.geometry.primary_angle_deg, first.job.geometry.sid_mm, first.job.geometry.sod_mm) == (
        -28.5,
        1200,
        None,
    )
    assert first.job.geometry.projection_matrix is not None
    assert first.job.mask_frames == (0, 1)
    assert (first.job.seed, first.job.device) == (7, "cpu")
    assert (other.job.init, other.job.preset, other.job.subtraction) == ("search", "paper", "as_is")


def test_spreadsheets_of_other_countries(tmp_path: Path) -> None:
    """Excel's byte order mark, semicolons, capitals, spaces, empty lines."""
    (tmp_path / "cases.csv").write_bytes("\ufeffName; CTA ;dsa;sid\r\n\r\none;a.nii;b.dcm;1200\r\n;;;\r\n".encode())
    (case,) = read_cases(tmp_path / "cases.csv")
    assert (case.name, case.job.cta.name, case.job.geometry.sid_mm) == ("one", "a.nii", 1200)


def test_everything_wrong_with_a_table_is_said_at_once(tmp_path: Path) -> None:
    text = """name,cta,dsa,sid,pixel_spacing,mask_frames,preset,seed,subtraction,sod,projection_matrix
one,a,b,far,1 2 3,0,quick,-1,perhaps,inf,absent.txt
,a,,,,,,,,,
ONE,a,b,,,,,,,,
../up,a,b,,,,,,,,
"""
    problems = problems_of(text, tmp_path)
    for row, column in [
        (2, name)
        for name in ("sid", "sod", "pixel_spacing", "mask_frames", "preset", "seed", "subtraction", "projection_matrix")
    ] + [(3, "name"), (3, "dsa"), (4, "name"), (5, "name")]:
        assert [p for p in problems if p.startswith(f"Row {row}, column {column}")], (row, column, problems)
    assert any("quick" in p and "default, paper" in p for p in problems)
    assert any('"ONE" stands in row 2' in p for p in problems)
    assert len(problems) == 12


def test_typed_geometry_that_is_no_number_is_named_by_its_column(tmp_path: Path) -> None:
    (problem,) = problems_of("name,cta,dsa,sod\none,a,b,inf\n", tmp_path)
    assert problem == "Row 2, column sod: inf is not finite."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,cta,dsa\n", "has no case"),
        ("", "lacks the columns name, cta, dsa"),
        ("name,cta\nx,y\n", "lacks the column dsa"),
        ("name,cta,dsa,refrence\na,b,c,d\n", '"refrence" is not a column of this table; reference is meant?'),
        ("name,cta,dsa,cta\na,b,c,d\n", '"cta" stands there twice'),
        ("name,cta,dsa\na,b,c,0.3,0.3\n", "Row 2 has 5 cells for 3 columns"),
        ("name,cta,dsa\nsummary.csv,b,c\n", "cannot be the name of a folder"),
    ],
)
def test_bad_tables(text: str, expected: str, tmp_path: Path) -> None:
    assert any(expected in problem for problem in problems_of(text, tmp_path))


def test_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_cases(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("name,cta,dsa\nM\xfcller,a,b\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_cases(tmp_path / "latin.csv")


def test_labels_of_masks_are_no_part_of_the_path(tmp_path: Path) -> None:
    for name in ("cta.nii", "dsa.dcm", "labels.nii.gz"):
        (tmp_path / name).touch()
    row = {
        "name": "a",
        "cta": "cta.nii",
        "dsa": "dsa.dcm",
        "cta_mask": "labels.nii.gz:2,3",
        "cta_vein_mask": "v.seg.nrrd:Veins",
    }
    (case,) = read_cases(write_table(tmp_path / "cases.csv", row, columns=tuple(row)))
    assert case.paths["cta_mask"] == tmp_path / "labels.nii.gz"
    assert case.job.cta_mask == tmp_path / "labels.nii.gz:2,3"
    (problem,) = missing_paths([case])
    assert "cta_vein_mask" in problem
    assert "v.seg.nrrd does not exist" in problem
