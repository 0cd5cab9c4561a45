"""Damaged volume files: each is refused with the bytes that are there and that should be, before memory is taken."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume

# Noise: what is compressed of it is as long as it is, so that a byte anywhere matters.
VOXELS = np.random.default_rng(0).integers(-1000, 2000, (20, 21, 22)).astype(np.int16)
BYTES = VOXELS.nbytes


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_volume(path)
    (problem,) = caught.value.problems
    assert path.name in problem
    assert str(path.parent) not in problem
    return problem


def write_itk(path: Path, compressed: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(VOXELS), str(path), useCompression=compressed)
    return path


def write_nifti(path: Path, kind: type = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(VOXELS.transpose(2, 1, 0), np.diag([1.0, 2, 3, 1])), path)
    return path


def written(folder: Path, name: str) -> Path:
    path = folder / name
    if ".nii" in name:
        return write_nifti(path, nibabel.Nifti2Image if name.startswith("two") else nibabel.Nifti1Image)
    return write_itk(path, compressed=name.startswith("packed"))


SINGLE = ["one.nii", "one.nii.gz", "two.nii", "two.nii.gz", "raw.nrrd", "packed.nrrd", "raw.mha", "packed.mha"]
PACKED = [name for name in SINGLE if "packed" in name or name.endswith(".gz")]


@pytest.mark.parametrize("name", [*SINGLE, "raw.nhdr", "packed.nhdr", "raw.mhd", "packed.mhd"])
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_volume(written(tmp_path, name)).voxels, VOXELS)


@pytest.mark.parametrize("share", [0.9, 0.5])
@pytest.mark.parametrize("name", SINGLE)
def test_cut_files_say_how_many_bytes_there_are(name: str, share: float, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    said = refusal(path)
    found = re.search(r"holds ([\d,]+) bytes of voxels where its header says ([\d,]+) .*copy it again", said)
    assert found, said
    held, wanted = (int(number.replace(",", "")) for number in found.groups())
    assert wanted == BYTES
    assert abs(held - share * BYTES) < 0.1 * BYTES


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("place", [0.3, 0.6, 0.97])
def test_a_flipped_byte_is_found(name: str, place: float, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 255
    path.write_bytes(content)
    assert re.search("check sum|cut short", refusal(path))


@pytest.mark.parametrize("name", [name for name in PACKED if ".nii" in name])
def test_a_wrong_check_sum_alone_is_found(name: str, tmp_path: Path) -> None:
    path = written(tmp_path, name)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of gzip's CRC; the four bytes after it are the length
    path.write_bytes(content)
    assert "check sum" in refusal(path)


def claims(folder: Path, name: str) -> Path:
    """A small file whose header says 800^3 or 1500^3."""
    path = folder / name
    if ".nii" in name:
        header = nibabel.Nifti1Header()
        header.set_data_shape((800, 800, 800))
        header.set_data_dtype(np.int16)
        header["vox_offset"] = 352
        header["magic"] = b"n+1"
        content = header.binaryblock + bytes(700)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    elif name.endswith(".nrrd"):
        encoding, data = ("gzip", gzip.compress(bytes(2000))) if "packed" in name else ("raw", bytes(2000))
        sizes = "1500 1500 1500" if "huge" in name else "800 800 800"
        path.write_bytes(
            f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nendian: little\nencoding: {encoding}\n\n".encode()
            + data
        )
    else:
        data = zlib.compress(bytes(2000))
        path.write_bytes(
            b"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = 800 800 800\n"
            b"ElementType = MET_SHORT\nElementDataFile = LOCAL\n" + data
        )
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "raw.nrrd", "packed.nrrd", "huge.nrrd", "packed.mha"])
def test_what_claims_too_much_takes_no_memory(name: str, tmp_path: Path) -> None:
    path = claims(tmp_path, name)
    tracemalloc.start()
    said = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6
    assert "6,750,000,000 bytes" in said if "huge" in name else "1,024,000,000" in said
    assert "opy it again" in said


def test_a_bomb_is_not_blown_up(tmp_path: Path) -> None:
    """400 MB of zeros after the voxels, in 400 kB."""
    path = write_nifti(tmp_path / "bomb.nii.gz")
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain + bytes(400 << 20), 6))
    tracemalloc.start()
    assert "holds more voxels" in refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize(("header", "data"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw"), ("packed.mhd", "packed.zraw")])
def test_data_beside_the_header(header: str, data: str, tmp_path: Path) -> None:
    path = written(tmp_path, header)
    beside = tmp_path / data
    content = beside.read_bytes()
    beside.write_bytes(content[: len(content) // 2])
    assert "cut short" in refusal(path)
    beside.unlink()
    assert f"keeps its voxels in {data}, which is not there" in refusal(path)


def test_numbered_and_listed_data_files(tmp_path: Path) -> None:
    """As scanners' tools write them: a file a slice."""
    for k, piece in enumerate(VOXELS):
        (tmp_path / f"s{k:03d}.raw").write_bytes(piece.tobytes())
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 22 21 20\nendian: little\nencoding: raw\ndata file: "
    (tmp_path / "numbered.nhdr").write_text(head + "s%03d.raw 0 19 1\n")
    (tmp_path / "listed.nhdr").write_text(head + "LIST\n" + "".join(f"s{k:03d}.raw\n" for k in range(20)))
    for name in ("numbered.nhdr", "listed.nhdr"):
        np.testing.assert_array_equal(load_volume(tmp_path / name).voxels, VOXELS)
    (tmp_path / "s004.raw").write_bytes(b"")
    assert "cut short" in refusal(tmp_path / "numbered.nhdr")
    (tmp_path / "s007.raw").unlink()
    assert "s007.raw, which is not there" in refusal(tmp_path / "listed.nhdr")


def test_values_as_text(tmp_path: Path) -> None:
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 22 21 20\nencoding: ascii\n\n"
    words = " ".join(map(str, VOXELS.ravel()))
    (tmp_path / "a.nrrd").write_text(head + words + "\n")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nrrd").voxels, VOXELS)
    (tmp_path / "a.nrrd").write_text(head + words[: len(words) // 2])
    assert "values where its header says 9,240" in refusal(tmp_path / "a.nrrd")


def test_several_gzip_streams_in_one_file(tmp_path: Path) -> None:
    """As bgzip and parallel packers write; zeros may follow."""
    plain = gzip.decompress(write_nifti(tmp_path / "a.nii.gz").read_bytes())
    pieces = [gzip.compress(plain[at : at + 1000]) for at in range(0, len(plain), 1000)]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(pieces) + bytes(512))
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").voxels, VOXELS)
    (tmp_path / "a.nii.gz").write_bytes(b"".join(pieces[:-3]))
    assert "cut short" in refusal(tmp_path / "a.nii.gz")


def changed(field: str, value: object) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        content = bytearray(write_nifti(path).read_bytes())
        header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        header[field] = value
        content[:348] = header.binaryblock
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("dim", [3, -4, 21, 20, 1, 1, 1, 1], "header says -4 x 21 x 20"),
        ("dim", [3, 0, 21, 20, 1, 1, 1, 1], "header says 0 x 21 x 20"),
        ("dim", [77, 22, 21, 20, 1, 1, 1, 1], "header says no voxels"),
        ("dim", [4, 11, 21, 20, 2, 1, 1, 1], "three dimensions are needed"),
        ("datatype", 999, "a type of voxels that NIfTI does not have"),
        ("datatype", 128, "colours"),
        ("vox_offset", 1e9, "copy it again"),
        ("vox_offset", np.nan, "voxels begin at byte not a number"),
        ("magic", b"ni1", "a file of its own"),
        ("magic", b"xxx", "cannot be read as a volume"),
        ("scl_inter", np.inf, None),
        ("sizeof_hdr", 7, "cannot be read as a volume"),
    ],
)
def test_damaged_nifti_headers(field: str, value: object, says: str | None, tmp_path: Path) -> None:
    path = changed(field, value)(tmp_path / "a.nii")
    if says is None:  # scaled by an infinite number, which counts where the slope does
        header = nibabel.Nifti1Header(path.read_bytes()[:348], check=False)
        header["scl_slope"] = 1
        path.write_bytes(header.binaryblock + path.read_bytes()[348:])
        says = "adds inf"
    assert says in refusal(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii", b"\x5c\x01"),
        ("a.nii.gz", gzip.compress(b"\x5c\x01", mtime=0)),
        ("a.nii.gz", b"\x1f\x8bnonsense"),
        ("a.nrrd", b""),
        ("a.nrrd", b"NRRD0004\ntype: block\nsizes: 3 3 3\nencoding: raw\n\n"),
        ("a.nrrd", b"NRRD0004\ntype: short\nsizes: a b c\nencoding: raw\n\n"),
        ("a.mha", b"ObjectType = Image\n"),
        ("a.mha", b"DimSize = 2 2 2\nElementType = MET_NONSENSE\nElementDataFile = LOCAL\n"),
        ("a.mha", bytes(5000)),
    ],
)
def test_what_is_no_volume(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("scaled", [False, True])
def test_values_are_those_of_nibabel(dtype: type, scaled: bool, tmp_path: Path) -> None:
    stored = VOXELS.clip(0, 255).astype(dtype)
    for name, order in (("little.nii", "<"), ("big.nii.gz", ">")):
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_shape(VOXELS.shape[::-1])
        header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
        header["magic"], header["vox_offset"], header["scl_slope"] = b"n+1", 352, 0
        if scaled:
            header["scl_slope"], header["scl_inter"] = 0.5, -1024
        content = header.binaryblock + bytes(4) + stored.astype(header.get_data_dtype()).tobytes()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        found = load_volume(tmp_path / name).voxels
        np.testing.assert_array_equal(found, nibabel.load(tmp_path / name).get_fdata().T)
        assert found.dtype.isnative
        assert found.dtype == (np.float32 if scaled or np.dtype(dtype).kind == "f" else dtype)


def test_values_that_are_not_finite_stay(tmp_path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 4, 5], voxels[0, 0, 0] = np.nan, np.inf
    save_volume(Volume(voxels, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(load_volume(tmp_path / "a.nii.gz").voxels, voxels)


def test_a_line_without_end_in_a_header(tmp_path: Path) -> None:
    """ITK's parser of NRRD dies of it."""
    path = write_itk(tmp_path / "a.nrrd")
    path.write_bytes(path.read_bytes().replace(b"encoding: raw", b"encoding: raw" + b"x" * 2000))
    assert "(encoding cannot be read)" in refusal(path)


def test_more_bytes_than_the_header_says_are_told(tmp_path: Path) -> None:
    for name in SINGLE:
        path = written(tmp_path, name)
        assert not load_volume(path).notes or not any("bytes of voxels" in note for note in load_volume(path).notes)
        if name in ("one.nii", "two.nii", "raw.nrrd", "raw.mha"):
            path.write_bytes(path.read_bytes() + b"12345")
        elif name.endswith(".gz"):
            path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"12345"))
        else:
            continue
        notes = load_volume(path).notes
        assert any(f"holds {BYTES + 5:,} bytes of voxels where its header says {BYTES:,}" in note for note in notes)


def test_a_claim_that_the_file_cannot_hold_is_not_answered_with_resampling(tmp_path: Path) -> None:
    path = changed("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1])(tmp_path / "a.nii")
    assert "cannot hold" in refusal(path)
    assert "resample" not in refusal(path)
