"""Tags that contradict each other about the scale: both are named, one is used, the other can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from xa_files import TYPED, Change, written

from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import describe, read_angiogram


def contradictions(run: Angiogram) -> list[str]:
    return [note for note in run.notes if ", but " in note and "used" in note]


def field_of_view(*sizes: int, shape: str = "RECTANGLE") -> Change:
    def change(ds: Dataset) -> None:
        ds.FieldOfViewShape, ds.FieldOfViewDimensions = shape, list(sizes)

    return change


@pytest.mark.parametrize("sizes", [(96, 160), (160, 96)], ids=["rows first", "columns first"])
def test_an_image_made_smaller_for_export(tmp_path: Path, sizes: tuple[int, int]) -> None:
    """48 x 64 pixels of 0.4 x 0.5 mm make 19.2 x 32 mm."""
    run = read_angiogram(written(tmp_path / "run.dcm", field_of_view(*sizes)))
    assert run.carm.pixel_spacing_mm == (0.4, 0.5)
    (said,) = contradictions(run)
    assert "0.4 x 0.5 mm by ImagerPixelSpacing (0018,1164), but 2 x 2.5 mm by FieldOfViewDimensions (0018,1149)" in said
    assert said.endswith("Give `pixel_spacing` 2,2.5.")
    (other,) = run.other_readings
    assert other.always
    assert other.read().carm.pixel_spacing_mm == pytest.approx((2, 2.5))
    assert said in describe(tmp_path / "run.dcm")["notes"]


@pytest.mark.parametrize(
    ("sizes", "shape", "contradicts"),
    [((19, 32), "RECTANGLE", False), ((45,), "ROUND", False), ((64,), "ROUND", True), ((25, 25), "RECTANGLE", False)],
    ids=["rounded", "the diagonal", "twice", "cropped"],
)
def test_sizes_that_agree_or_tell_nothing(
    tmp_path: Path, sizes: tuple[int, ...], shape: str, contradicts: bool
) -> None:
    run = read_angiogram(written(tmp_path / "run.dcm", field_of_view(*sizes, shape=shape)))
    assert bool(contradictions(run)) == contradicts


def test_binned_elements_and_magnification(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.DetectorElementSpacing, ds.DetectorBinning = [0.4, 0.5], [2, 2]
        ds.EstimatedRadiographicMagnificationFactor = 1.5  # 1193 / 720 is 1.657

    run = read_angiogram(written(tmp_path / "run.dcm", change))
    spacing, magnification = contradictions(run)
    assert "DetectorElementSpacing (0018,7022) 0.4 x 0.5 times DetectorBinning (0018,701A) 2 x 2" in spacing
    assert "SID over SOD is 1.657" in magnification
    assert "EstimatedRadiographicMagnificationFactor (0018,1114) is 1.5, as for a SOD of 795.3 mm" in magnification
    assert run.other_readings[1].read().carm.sod_mm == pytest.approx(1193 / 1.5)


def test_what_is_typed_settles_it(tmp_path: Path) -> None:
    path = written(tmp_path / "run.dcm", field_of_view(96, 160))
    assert read_angiogram(path, TYPED).other_readings == ()
    run = read_angiogram(path, GeometryOptions(pixel_spacing_mm=(2, 2.5)))
    assert not contradictions(run)
