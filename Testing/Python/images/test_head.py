"""Where the head lies, whatever else the file shows and however it is stored."""

from __future__ import annotations

import numpy as np
import pytest
from head_phantom import head

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.head import brain_of, coarse_ct
from DeepIterRegLib.images.volume import Volume

AIR = -1000
CIRCLE_OF_WILLIS_MM = np.array([0.0, 0.0, -35.0])  # the skull's widest slices are at 0


def padded(volume: Volume, below: int = 0, above: int = 0, beside: int = 0, value: int | None = AIR) -> Volume:
    """More voxels on the sides; below, `value` None repeats the last slice."""
    voxels = np.pad(volume.voxels, ((0, above), (beside, beside), (beside, beside)), constant_values=AIR)
    shape = (below, *voxels.shape[1:])
    extra = np.broadcast_to(voxels[:1], shape) if value is None else np.full(shape, value, voxels.dtype)
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ (beside, beside, below)
    return Volume(np.concatenate([extra, voxels]), affine)


def with_shoulders(volume: Volume) -> Volume:
    """Neck, shoulders and chest below: ribs about lungs and a heart full of contrast, and collar bones."""
    long = padded(volume, below=100, beside=50, value=AIR)
    k, j, i = np.indices(long.voxels.shape)
    x, y, z = np.moveaxis(long.to_ras(np.stack([k, j, i], -1).reshape(-1, 3)).reshape(*long.voxels.shape, 3), -1, 0)
    voxels = long.voxels.copy()
    chest = (z < -200) & ((x / 185) ** 2 + ((y + 10) / 100) ** 2 < 1)
    neck = (z < -150) & (np.hypot(x, y + 10) < 60)
    lungs = (z < -240) & ((np.abs(x) - 75) ** 2 / 55**2 + (y + 10) ** 2 / 75**2 < 1)
    ribs = (
        chest
        & ((x / 170) ** 2 + ((y + 10) / 88) ** 2 > 1)
        & ((x / 178) ** 2 + ((y + 10) / 94) ** 2 < 1)
        & (z % 25 < 10)
    )
    voxels[chest | neck] = 50
    voxels[ribs | (chest & (np.hypot(x, y + 70) < 15))] = 700
    voxels[lungs] = -800
    voxels[(z < -260) & (np.hypot(x - 10, y) < 25)] = 400
    return Volume(voxels, long.affine)


WHOLE = head()
FIELDS = {
    "air below": padded(WHOLE, below=110),
    "the lowest slice again below": padded(WHOLE, below=110, value=None),
    "air above and beside": padded(WHOLE, above=60, beside=70),
    "chest and shoulders": with_shoulders(WHOLE),
    "brain only, 160 mm": Volume(WHOLE.voxels[45:, 15:-15, 5:-5], WHOLE.affine @ np.array(
        [[1, 0, 0, 5], [0, 1, 0, 15], [0, 0, 1, 45], [0, 0, 0, 1.0]])),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_the_centre_does_not_depend_on_what_else_the_file_shows(name: str) -> None:
    prepared = prepare_cta(FIELDS[name])
    assert prepared.centre_mm == pytest.approx(CIRCLE_OF_WILLIS_MM, abs=4)
    # No more than a head is kept, on the file's own voxels.
    assert (np.array(prepared.voxels.shape) * 2 <= (255, 310, 240)).all()
    again = prepared.on_grid_of(FIELDS[name])
    kept = again.voxels != 0
    assert np.array_equal(again.voxels[kept], FIELDS[name].voxels[kept])


def test_the_centre_survives_other_axes() -> None:
    turned = np.eye(4)
    turned[:3, :3] = pose.euler_deg_to_rotation(np.array([12.0, -8.0, 15.0]))
    turned[:3, 3] = (30, -400, 900)
    # Slices from front to back, the head last, as a coronal series.
    voxels = WHOLE.voxels.transpose(1, 0, 2)[::-1, ::-1]
    rows, slices = WHOLE.voxels.shape[:2]
    stored = WHOLE.affine @ np.array([[1, 0, 0, 0], [0, 0, -1, slices - 1], [0, -1, 0, rows - 1], [0, 0, 0, 1.0]])
    centre = prepare_cta(Volume(np.ascontiguousarray(voxels), turned @ stored)).centre_mm
    back = np.linalg.inv(turned) @ [*centre, 1]
    assert back[:2] == pytest.approx([0, 0], abs=8)
    assert back[2] == pytest.approx(-35, abs=10)  # 35 mm down are measured along the file's own axis


def test_cut_ends_are_said_and_the_centre_stays() -> None:
    without_vertex = Volume(WHOLE.voxels[:106], WHOLE.affine)  # ends at 42 of 75 mm
    prepared = prepare_cta(without_vertex)
    assert ["vertex" in note for note in prepared.notes] == [True]
    assert prepared.centre_mm == pytest.approx(CIRCLE_OF_WILLIS_MM, abs=10)
    without_base = Volume(WHOLE.voxels[75:], WHOLE.affine @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 75], [0, 0, 0, 1.0]]))  # fmt: skip
    assert any("skull base" in note for note in prepare_cta(without_base).notes)


def test_the_brain_is_what_bone_encloses() -> None:
    coarse = coarse_ct(WHOLE)
    litres = brain_of(coarse).sum() * coarse.voxel_cm3 / 1000
    assert litres == pytest.approx(4 / 3 * np.pi * 0.67 * 0.84 * 0.67, rel=0.12)


def test_a_chest_alone_holds_no_head_and_says_its_size() -> None:
    chest = with_shoulders(WHOLE)
    with pytest.raises(InputError, match=r"No skull encloses a brain in the CTA of \d+ x \d+ x \d+ mm .*`head_centre`"):
        prepare_cta(Volume(chest.voxels[:85], chest.affine))


def test_a_given_centre_is_taken() -> None:
    chest = with_shoulders(WHOLE)
    prepared = prepare_cta(Volume(chest.voxels[:85], chest.affine), (10.0, 5.0, -300.0))
    assert prepared.centre_mm.tolist() == [10, 5, -300]
    with pytest.raises(InputError, match="outside the CTA"):
        prepare_cta(WHOLE, (0.0, 0.0, 900.0))


def test_floats_and_other_types_become_the_same_hu() -> None:
    usual = prepare_cta(WHOLE)
    for dtype in (np.float32, np.int32):
        again = prepare_cta(WHOLE.with_voxels(WHOLE.voxels.astype(dtype)))
        assert again.voxels.dtype == np.int16
        assert np.array_equal(again.voxels, usual.voxels)


def test_a_field_that_holds_the_whole_head_gives_the_same_voxels() -> None:
    air = {name: prepare_cta(FIELDS[name]) for name in ("air below", "air above and beside")}
    chest = prepare_cta(FIELDS["chest and shoulders"])
    assert chest.centre_mm == pytest.approx(air["air below"].centre_mm, abs=0.5)
    for prepared in air.values():
        assert prepared.centre_mm == pytest.approx(prepare_cta(WHOLE).centre_mm, abs=1e-9)
        assert prepared.voxels.shape[2] >= prepare_cta(WHOLE).voxels.shape[2]


@pytest.mark.parametrize(("scale", "said"), [(0.5, True), (1.0, False), (1.6, True)])
def test_a_head_of_an_unlikely_size_is_told(scale: float, said: bool) -> None:
    notes = prepare_cta(Volume(WHOLE.voxels, WHOLE.affine * (scale, scale, scale, 1.0))).notes
    assert any("mm long" in note and "spacing" in note for note in notes) == said
