"""What `info` says of files and folders of every kind: what they are, and how they would be used."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ct_files import head, write_enhanced, write_slices
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from typer.testing import CliRunner

from DeepIterRegLib.cases.describe import describe_file
from DeepIterRegLib.cli import app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry.pose_files import write_tfm
from DeepIterRegLib.images.files import save_volume
from DeepIterRegLib.images.volume import Volume


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    filled = head(300)
    write_slices(folder / "study" / "a", filled, 2, "CTA head")
    write_slices(folder / "study" / "b", head(), 1, "native")
    write_slices(folder / "ct", filled)
    write_enhanced(folder / "enhanced.dcm", filled)
    write_enhanced(folder / "rotational.dcm", filled, None, "1.2.840.10008.5.1.4.1.1.13.1.1", "XA")
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = (-90, -100, 3)
    save_volume(Volume(filled, affine), folder / "cta.nii.gz")
    save_volume(Volume(filled > 300, affine), folder / "vessels.nii.gz")
    with zipfile.ZipFile(folder / "cta.zip", "w") as file:
        for path in sorted((folder / "ct").iterdir()):
            file.write(path, path.name)
    write_tfm(folder / "pose.tfm", np.eye(4))
    (folder / "pose.json").write_text(json.dumps({"ctaToCarm": np.eye(4).tolist()}))
    (folder / "other.json").write_text("{}")
    (folder / "matrix.txt").write_text("1 0 0 0\n0 1 0 0\n0 0 1 0\n")
    (folder / "cases.csv").write_text("name,cta,dsa\na,cta.nii,dsa.dcm\n")
    (folder / "points.csv").write_text("name,x,y,z,column,row\na,1,2,3,4,5\n")
    (folder / "money.csv").write_text("euro\n1\n")
    for name in ("weights.safetensors", "clot.stl", "clot.vtp", "tree.swc", "line.mrk.json", "run.mp4"):
        (folder / name).write_bytes(b"")
    for name, sop_class in (
        ("report.dcm", "1.2.840.10008.5.1.4.1.1.88.67"),
        ("mask.dcm", "1.2.840.10008.5.1.4.1.1.66.4"),
    ):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
        ds.Modality = "SR" if "88" in sop_class else "SEG"
        ds.save_as(folder / name, enforce_file_format=True)
    (folder / "reports").mkdir()
    (folder / "reports" / "report.dcm").write_bytes((folder / "report.dcm").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "used", "what"),
    [
        ("study", "volume", "CTA", "CT, a file a slice"),
        ("ct", "volume", "CTA", "CT, a file a slice"),
        ("ct/IM0003.dcm", "a slice of a CT", "nothing alone", None),
        ("enhanced.dcm", "volume", "CTA", "enhanced CT"),
        ("rotational.dcm", "volume", "CTA", "3D volume of a rotational run"),
        ("cta.nii.gz", "volume", "CTA", "CT of a head"),
        ("cta.zip", "volume", "CTA", "CT, a file a slice"),
        ("vessels.nii.gz", "mask", "vessels of the CTA", None),
        ("pose.tfm", "transform", "start", None),
        ("pose.json", "transform", "start", None),
        ("other.json", "JSON file without a pose", "nothing", None),
        ("matrix.txt", "matrix of 3 rows of 4", "projection matrix", None),
        ("cases.csv", "table of cases", "batch", None),
        ("points.csv", "points", "landmarks", None),
        ("money.csv", "table", "nothing", None),
        ("weights.safetensors", "weights", "weights", None),
        ("clot.stl", "model", "item of a roadmap", None),
        ("clot.vtp", "model", "item of a roadmap", None),
        ("tree.swc", "centrelines", "item of a roadmap", None),
        ("line.mrk.json", "points or curves", "landmarks", None),
        ("run.mp4", "video", "DICOM file", None),
        ("report.dcm", "a report", "nothing", None),
        ("mask.dcm", "a segmentation", "vessels of the CTA", None),
        ("reports", "DICOM without a CT", "nothing", None),
    ],
)
def test_every_kind_is_told(files: Path, name: str, kind: str, used: str, what: str | None) -> None:
    found = describe_file(files / name)
    assert found["kind"].startswith(kind)
    assert used in found["used as"]
    assert found.get("what it is", "").startswith(what or "")


def test_every_series_of_a_folder_is_listed(files: Path) -> None:
    first, second = describe_file(files / "study")["series"]
    assert first.startswith('read: CT with 72 slices of 84x76, 2.5 mm apart (series 2, "CTA head")')
    assert second.endswith('(series 1, "native"): no contrast in its vessels')
    chosen = describe_file(files / "study", "1")["series"]
    assert "series 1" in chosen[0]
    assert chosen[1].endswith("another was asked for")


def test_what_is_nothing_is_refused(files: Path) -> None:
    (files / "notes.txt").write_text("hello")
    for name in ("notes.txt", "absent"):
        with pytest.raises(InputError):
            describe_file(files / name)


def test_the_command_line_says_what_was_read_when_the_run_fails(files: Path, tmp_path: Path) -> None:
    command = ["register", str(files / "study"), str(files / "absent.dcm"), "--out", str(tmp_path / "out"), "--quiet"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Note: There are 2 CT series; read is")
    assert "Give --series." in lines[0]
    assert lines[1].startswith("Error: ")
    assert "absent.dcm" in lines[1]
