"""What may be shown: names of files made of known words, coded values, kinds of faults; nothing that may name a patient."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from DeepIterRegLib.common.shown import (
    called,
    calling,
    fault_words,
    known_words,
    label_of,
    name_of,
    names_nobody,
    place_of,
    quoted,
)
from DeepIterRegLib.images.dicom.safe_words import coded, codes_of, kernel_words, uid_name, whole_number


@pytest.mark.parametrize(
    "name",
    [
        *("cta.nii.gz", "run.dcm", "ctaToCarm.tfm", "patient7", "IM0001.dcm", "IM000123.dcm", "0001-0012.dcm", "a.nii"),
        *(
            "registration.json",
            "vessels2.nii.gz",
            "initial_pose.safetensors",
            "CTA_HEAD-1.25mm.nrrd",
            "left ICA.mrk.json",
        ),
    ],
)
def test_names_made_of_known_words_are_shown_without_their_folders(name: str, tmp_path: Path) -> None:
    assert name_of(tmp_path / "Doe_Jane" / name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("Doe_Jane.nii.gz", "cta_Doe.nii.gz", "DoeJane.dcm", "DSA19570813.dcm", "1957-08-13_cta.nii", "run.Doe"),
        *(
            "12345.dcm",
            "1.2.276.0.7230010.3.1.dcm",
            "J_D_cta_77123.nii",
            "Müller.dcm",
            "患者.nii.gz",
            "ct_MRN0451.nrrd",
        ),
    ],
)
def test_other_names_are_told_by_what_the_file_is_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert name_of(path) == "<file>"
    assert name_of(path, "dsa") == "<dsa>"
    with called("cta"):
        assert name_of(path) == "<cta>"
        assert calling("mask", name_of)(path) == "<mask>"
    assert name_of(path) == "<file>"
    path.mkdir()
    assert name_of(path) == "<folder>"


def test_an_output_is_told_by_its_last_folder(tmp_path: Path) -> None:
    assert place_of(tmp_path / "Doe" / "result", "report.html") == "result/report.html"
    assert place_of(tmp_path / "Doe_Jane", "reader1", "read.html") == "<out>/reader1/read.html"
    # Below the current folder it is shown as it was named, and can be opened.
    assert place_of(Path("results", "mine"), "report.html") == "results/mine/report.html"


def test_text_that_is_not_ours_is_quoted_only_where_it_names_nobody() -> None:
    assert quoted("0.5x") == '"0.5x"'
    assert quoted("Mustermann") == "a text of 10 letters"
    assert quoted("papr", ["default", "paper"]) == '"papr"'
    assert quoted("Papermann", ["default", "paper"]) == "a text of 9 letters"
    assert (label_of("Left ICA"), label_of("Doe aneurysm")) == ("Left ICA", "")
    assert known_words("Doe^Jane Head Angio 0.75 Hr40", frozenset(("doe", "jane"))) == "Head Angio 0.75"
    assert names_nobody("")


def test_coded_values_are_shown_against_their_lists() -> None:
    shown = ("XA", "MONOCHROME2", "PALETTE COLOR", "ORIGINAL\\PRIMARY\\SINGLE PLANE", "L\\FAR", "HFS", "12", "-1024.5")
    assert [coded(code) for code in shown] == list(shown)
    for value in ("MUSTERMANN", "XA p LO Doe", "19570813", "CT\\DOE", b"XA", "RR"):
        assert coded(value) == "unreadable"
    assert (coded(None), coded("")) == ("empty", "empty")
    assert codes_of(["ORIGINAL", "DOE", "DSA"]) == ["ORIGINAL", "DSA"]
    assert (whole_number("512"), whole_number(19570813), whole_number("DOE")) == (
        "512",
        "a number beyond 100,000",
        "no number",
    )
    assert uid_name("1.2.840.10008.5.1.4.1.1.12.1") == "X-Ray Angiographic Image Storage"
    assert (uid_name("1.2.840.10008.5.1.4.1.1.12.1 LO Doe"), uid_name("1.2.276.19570813")) == ("unknown", "unknown")
    kernels = ("H30s", "Br40d/3", "FC03", "STANDARD", "BONEPLUS", "UB")
    assert [kernel_words(kernel, frozenset()) for kernel in kernels] == list(kernels)
    assert kernel_words("MUSTERMANN", frozenset()) == ""


def test_an_exception_is_told_by_its_kind_and_our_line() -> None:
    with pytest.raises(TypeError) as caught:
        name_of(None)  # type: ignore[arg-type]
    assert re.fullmatch(r"TypeError \(shown\.py:\d+\)", fault_words(caught.value))
    assert fault_words(KeyError("PatientName Doe")) == "KeyError"
