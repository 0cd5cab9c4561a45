"""Damaged pictures: refused with the bytes that are there and that should be; what is whole is read as before."""

from __future__ import annotations

import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom.image_files import read_pixels

# Noise: compressed it is as long as it is, so that a byte anywhere matters.
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 70)).astype(np.uint8)


def write(path: Path) -> Path:
    if path.suffix == ".tif":
        how = {"deflate": "zlib", "packbits": "packbits"}.get(path.stem)
        if how == "packbits":
            Image.fromarray(PIXELS).save(path, compression="packbits")
        else:
            tifffile.imwrite(
                path, np.stack([PIXELS, PIXELS[::-1]]) if path.stem == "stack" else PIXELS, compression=how
            )
    else:
        Image.fromarray(PIXELS).save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_pixels(path)
    (problem,) = caught.value.problems
    assert path.name in problem
    return problem


LOSSLESS = ["a.png", "plain.tif", "stack.tif", "deflate.tif", "packbits.tif", "a.bmp"]


@pytest.mark.parametrize("name", LOSSLESS)
def test_whole_pictures_are_read(name: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_pixels(write(tmp_path / name))[0], PIXELS)


@pytest.mark.parametrize("name", [*LOSSLESS, "a.jpg"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_cut_pictures_are_refused(name: str, share: float, tmp_path: Path) -> None:
    path = write(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    said = refusal(path)
    if share == 0.5:
        assert re.search(r"cut short.*\d bytes|cut short", said), said


def test_a_picture_of_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_byte_of_a_png_is_found(place: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 255
    path.write_bytes(content)
    assert "check sum" in refusal(path)


def png(columns: int, rows: int, pixels: bytes, interlaced: int = 0) -> bytes:
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, interlaced)),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def test_a_png_of_other_size_than_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rows = b"".join(b"\0" + row.tobytes() for row in PIXELS)
    path.write_bytes(png(70, 60, zlib.compress(rows)))
    np.testing.assert_array_equal(read_pixels(path)[0], PIXELS)
    path.write_bytes(png(70, 61, zlib.compress(rows)))
    assert "holds 4,260 bytes of pixels where its header says 4,331" in refusal(path)
    path.write_bytes(png(70, 59, zlib.compress(rows)))
    assert "holds 4,260 bytes of pixels where its header says 4,189" in refusal(path)
    path.write_bytes(png(70, 60, zlib.compress(rows)[:-4] + b"1234"))  # zlib's own check sum
    assert "check sum" in refusal(path)


def test_interlaced_pngs_are_read(tmp_path: Path) -> None:
    """Adam7: seven passes, each a picture of its own."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    body = b"".join(
        b"\0" + row.tobytes() for top, left, down, across in passes for row in PIXELS[top::down, left::across]
    )
    (tmp_path / "a.png").write_bytes(png(70, 60, zlib.compress(body), interlaced=1))
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png")[0], PIXELS)


@pytest.mark.parametrize("side", [20_000, 65_535])
def test_bombs_take_no_memory(side: int, tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png(side, side, zlib.compress(bytes(1000))))
    write(tmp_path / "bomb.tif")
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(side)
    tracemalloc.start()
    for name in ("bomb.png", "bomb.tif"):
        assert re.search(rf"{side} x {side} pixels|where its header says", refusal(tmp_path / name))
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()


def test_a_tiff_whose_strip_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, PIXELS, compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = list(file.pages[0].databytecounts)
        file.pages[0].tags["StripByteCounts"].overwrite([*counts[:3], 0, *counts[4:]])
    assert "5 of its 6 parts are there" in refusal(path)


def test_a_jpeg_whose_parts_do_not_follow_each_other(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:20] + b"\0\0\0" + content[20:])
    assert "parts do not follow each other" in refusal(path)
