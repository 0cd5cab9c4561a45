"""Geometry in private elements: read where the standard's tags are absent, stored without the file, said in the notes."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from DeepIterRegLib.common.options import GeometryOptions
from DeepIterRegLib.images.dicom.geometry_tags import look_up, read_carm
from DeepIterRegLib.images.dicom.header import Header
from DeepIterRegLib.images.dicom.header_copy import copied_header, copy_header
from DeepIterRegLib.images.dicom.vendors import private_values


def ge_header(**standard: object) -> Header:
    """A run of GE that was anonymised: the standard's geometry is gone, the private group is left."""
    ds = Dataset()
    ds.Rows, ds.Columns, ds.NumberOfFrames = 64, 64, 1
    ds.ImagerPixelSpacing = [0.4, 0.4]
    for name, value in standard.items():
        setattr(ds, name, value)
    block = ds.private_block(0x0025, "GEMS_DL_FRAME_01", create=True)
    for element, value in ((0x03, "1193"), (0x04, "720"), (0x06, "-28.5"), (0x07, "21.9")):
        block.add_new(element, "DS", value)
    block.add_new(0x10, "LO", "Doe^Jane")  # private, and not among what is listed
    return Header(ds, {})


def test_private_values_make_the_view() -> None:
    carm, notes = read_carm(ge_header(), 64, 64, GeometryOptions())
    assert carm.sid_mm == 1193
    assert carm.sod_mm == pytest.approx(720)
    angles = carm.to_dict()
    assert (angles["primary_angle_deg"], angles["secondary_angle_deg"]) == pytest.approx((-28.5, 21.9))
    assert any("GEMS_DL_FRAME_01 (0025,xx03)" in note for note in notes)


def test_the_standard_s_tags_come_first() -> None:
    header = ge_header(DistanceSourceToDetector=1200, DistanceSourceToPatient=750)
    found = look_up(header, 64, 64, GeometryOptions()).found
    assert (found["sid_mm"].value, found["sod_mm"].value) == (1200, 750)
    assert "DistanceSourceToDetector" in found["sid_mm"].source


def test_senseless_private_values_are_refused_like_others() -> None:
    header = ge_header()
    header.dataset.private_block(0x0025, "GEMS_DL_FRAME_01")[0x03].value = "0"
    assert "GEMS_DL_FRAME_01 (0025,xx03) is 0" in look_up(header, 64, 64, GeometryOptions()).problems["sid_mm"]


def test_they_are_stored_with_the_images_and_nothing_else_private_is() -> None:
    header = ge_header()
    again = copied_header(copy_header(header))
    assert read_carm(again, 64, 64, GeometryOptions()) == read_carm(header, 64, 64, GeometryOptions())
    assert "Doe" not in copy_header(header)


def test_every_vendor_s_file_is_found() -> None:
    assert {value.creator for value in private_values()} >= {"GEMS_DL_FRAME_01", "SIEMENS SMS-AX  ACQ 1.0"}
    fields = set(GeometryOptions.__dataclass_fields__)
    assert {value.name for value in private_values()} <= fields


def ge_detector(**standard: object) -> Header:
    """A field of view of 64 x 64 elements on a detector of 200 x 100, known from private elements alone."""
    header = ge_header(DetectorElementSpacing=[0.4, 0.4], **standard)
    header.dataset.private_block(0x0025, "GEMS_DL_FRAME_01").add_new(0x33, "IS", ["60", "20"])
    block = header.dataset.private_block(0x0019, "GEMS_DL_IMG_01", create=True)
    block.add_new(0x42, "US", 200)
    block.add_new(0x43, "US", 100)
    return header


def test_private_detector_tells_where_the_isocentre_falls() -> None:
    header = ge_detector()
    for one in (header, copied_header(copy_header(header))):
        carm, notes = read_carm(one, 64, 64, GeometryOptions())
        assert carm.principal_point_px == pytest.approx((99 / 2 - 20, 199 / 2 - 60))
        assert not any("isocentre falls" in note for note in notes)
    carm, _ = read_carm(ge_detector(FieldOfViewOrigin=[70, 20]), 64, 64, GeometryOptions())
    assert carm.principal_point_px == pytest.approx((99 / 2 - 20, 199 / 2 - 70))


def test_an_image_of_the_whole_detector_has_the_isocentre_in_its_middle() -> None:
    for size, known in ((25.6, True), (40.0, False)):
        carm, notes = read_carm(ge_header(DetectorActiveDimensions=[size, size]), 64, 64, GeometryOptions())
        assert carm.principal_point_px == pytest.approx((31.5, 31.5))
        assert any("isocentre falls" in note for note in notes) != known
