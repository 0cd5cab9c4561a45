"""Whole files of every kind that is read, small, from which damaged ones are made."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "Python")]

Shelter = Literal["plain", "sums", "coded", "text"]
# What stands in the headers and must never be said.
CANARY = "ZZCANARY"
VOXELS = np.random.default_rng(0).integers(-1000, 2000, (20, 21, 22)).astype(np.int16)
AFFINE = np.diag([-0.5, -0.6, 0.7, 1.0])
AFFINE[:3, 3] = (20, 30, -10)
LABELS = np.zeros((12, 14, 16), np.uint8)
LABELS[2:9, 3:6, 4:8], LABELS[4:6, 8:12, 2:14] = 1, 2


@dataclass(frozen=True)
class Seed:
    """One whole input.

    Attributes
    ----------
    reader
        Which reads it; a row of the table.
    name
        Of its file or folder.
    shelter
        What can be known of damage to its pixels: ``plain``, sizes alone; ``sums``, every byte, by a check sum; ``coded``, that
        it was cut, but a changed byte decodes to other pixels; ``text``, no pixels.
    data_at
        From which byte on that holds.
    """

    reader: str
    name: str
    shelter: Shelter
    data_at: int = 0


def make_seeds(folder: Path) -> list[Seed]:
    """Write all seeds into a folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seeds: list[Seed] = []
    for make in (
        _runs,
        _tomograms,
        _volumes,
        _pictures,
        _masks,
        _archives,
        _poses,
        _points,
        _tables,
        _models,
        _results,
    ):
        seeds += make(folder)
    (folder / "seeds.json").write_text(json.dumps([vars(seed) for seed in seeds]))
    return seeds


def read_seeds(folder: Path) -> list[Seed]:
    """What `make_seeds` wrote."""
    return [Seed(**values) for values in json.loads((folder / "seeds.json").read_text())]


def place(seed: Seed, source: Path, target: Path) -> Path:
    """The seed in a folder of its own, its files as links where they are many; what is damaged is written anew."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    at = source / seed.reader
    if (at / seed.name).is_dir():
        shutil.copytree(at / seed.name, target / seed.name, copy_function=os.link)
    else:
        # Files that belong together have one stem.
        for file in at.glob(seed.name.split(".")[0] + ".*"):
            os.link(file, target / file.name)
    return target / seed.name


# -- runs ----------------------------------------------------------------------------------------------


def _named(ds: Any) -> None:
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{CANARY}^Jane", f"{CANARY}77", "19610203"
    ds.InstitutionName, ds.AccessionNumber, ds.StudyDescription = f"{CANARY} hospital", f"{CANARY}1", f"{CANARY} s"
    ds.SeriesDescription, ds.StudyDate = f"{CANARY} series", "20260101"


def _runs(folder: Path) -> Iterator[Seed]:
    import pydicom
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGLSLossless,
        RLELossless,
    )
    from xa_files import recode, written

    at = folder / "DSA run"
    at.mkdir()

    def change(ds: Any) -> None:
        _named(ds)
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PatientOrientation = ["L", "F"]
        ds.ShutterShape, ds.FrameTimeVector = "RECTANGULAR", [0, 500, 500, 500, 500]
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 3, 62
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 2, 47

    syntaxes = {
        "native": None,
        "implicit": ImplicitVRLittleEndian,
        "big": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
        "rle": RLELossless,
        "jpegls": JPEGLSLossless,
        "j2k": JPEG2000Lossless,
    }
    for name, syntax in syntaxes.items():
        path = written(at / f"{name}.dcm", change)
        if syntax:
            recode(path, syntax)
        coded = name in ("deflated", "rle", "jpegls", "j2k")
        yield Seed(at.name, path.name, "coded" if coded else "plain", _pixels_at(path))
    _jpeg_run(at, change)
    yield Seed(at.name, "jpeg.dcm", "coded", _pixels_at(at / "jpeg.dcm"))
    for name, syntax in (("lossless", "1.2.840.10008.1.2.4.70"), ("extended", "1.2.840.10008.1.2.4.51")):
        if _by_gdcm(at / "native.dcm", at / f"{name}.dcm", syntax):
            yield Seed(at.name, f"{name}.dcm", "coded", _pixels_at(at / f"{name}.dcm"))
    whole = pydicom.dcmread(written(at / "frames.dcm", change))
    frames = whole.pixel_array
    (at / "frames.dcm").unlink()
    (at / "frames").mkdir()
    del whole.NumberOfFrames, whole.FrameTimeVector
    for n, frame in enumerate(frames):
        whole.InstanceNumber, whole.SOPInstanceUID = n + 1, f"1.2.3.{n + 1}"
        whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
        whole.AcquisitionDateTime = f"2026010110000{n}.5"
        whole.PixelData = frame.tobytes()
        whole.save_as(at / "frames" / f"f{n}.dcm")
    yield Seed(at.name, "frames", "plain", _pixels_at(at / "frames" / "f0.dcm"))


def _pixels_at(path: Path) -> int:
    """Where pixels begin in a file; 0 in a deflated one."""
    return max(0, path.read_bytes().rfind(b"\xe0\x7f\x10\x00"), path.read_bytes().rfind(b"\x7f\xe0\x00\x10"))


def _jpeg_run(at: Path, change: Callable[[Any], None]) -> None:
    import io

    import pydicom
    from PIL import Image
    from pydicom.encaps import encapsulate
    from xa_files import written

    ds = pydicom.dcmread(written(at / "jpeg.dcm", change))
    frames = (ds.pixel_array / 16).astype(np.uint8)
    streams = []
    for frame in frames:
        Image.fromarray(frame).save(buffer := io.BytesIO(), "JPEG", quality=95)
        streams.append(buffer.getvalue())
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = encapsulate(streams)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    ds.save_as(at / "jpeg.dcm")


def _by_gdcm(source: Path, target: Path, syntax: str) -> bool:
    """A file in a transfer syntax that pydicom does not write; False where it cannot be written here."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    change = gdcm.ImageChangeTransferSyntax()
    kinds = {
        "1.2.840.10008.1.2.4.70": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        "1.2.840.10008.1.2.4.51": gdcm.TransferSyntax.JPEGExtendedProcess2_4,
    }
    if not reader.Read():
        return False
    change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
    change.SetInput(reader.GetImage())
    if not change.Change():
        return False
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    return bool(writer.Write())


# -- tomograms -----------------------------------------------------------------------------------------


def _tomograms(folder: Path) -> Iterator[Seed]:
    from ct_files import head, write_enhanced, write_slices
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

    at = folder / "CT"
    at.mkdir()
    hu = head(300)

    def named(ds: Any, k: int) -> None:
        _named(ds)

    def packed(syntax: str) -> Callable[[Any, int], None]:
        def change(ds: Any, k: int) -> None:
            _named(ds)
            if syntax == DeflatedExplicitVRLittleEndian:
                ds.file_meta.TransferSyntaxUID = syntax
            else:
                ds.compress(syntax)

        return change

    write_slices(at / "slices", hu, change=named)
    yield Seed(at.name, "slices", "plain", _pixels_at(at / "slices" / "IM0000.dcm"))
    write_slices(at / "rle", hu, change=named, rle=True)
    yield Seed(at.name, "rle", "coded", _pixels_at(at / "rle" / "IM0000.dcm"))
    for name, syntax in (("j2k", JPEG2000Lossless), ("deflated", DeflatedExplicitVRLittleEndian)):
        write_slices(at / name, hu, change=packed(syntax))
        yield Seed(at.name, name, "coded", 0)
    write_enhanced(at / "enhanced.dcm", hu)
    yield Seed(at.name, "enhanced.dcm", "plain", _pixels_at(at / "enhanced.dcm"))
    write_enhanced(at / "enhanced_rle.dcm", hu, rle=True)
    yield Seed(at.name, "enhanced_rle.dcm", "coded", _pixels_at(at / "enhanced_rle.dcm"))


# -- volumes, masks, pictures --------------------------------------------------------------------------


def _volumes(folder: Path) -> Iterator[Seed]:
    import nibabel
    import SimpleITK as sitk
    from ct_files import head

    at = folder / "NIfTI, NRRD, MHA"
    at.mkdir()
    hu = head(300)
    affine = np.diag([-2.5, -2.5, 2.5, 1.0])
    affine[:3, 3] = (90, 100, 0)
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), at / "plain.nii")
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), at / "packed.nii.gz")
    nibabel.save(nibabel.Nifti2Image(hu.transpose(2, 1, 0).astype(np.float32), affine), at / "two.nii.gz")
    yield Seed(at.name, "plain.nii", "plain", 352)
    yield Seed(at.name, "packed.nii.gz", "sums", 10)
    yield Seed(at.name, "two.nii.gz", "sums", 10)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((2.5, 2.5, 2.5))
    image.SetMetaData("Comment", CANARY)
    for name, packed in (
        ("raw.nrrd", False),
        ("gzip.nrrd", True),
        ("beside.nhdr", False),
        ("raw2.mha", False),
        ("zlib.mha", True),
        ("beside2.mhd", True),
    ):
        sitk.WriteImage(image, str(at / name), useCompression=packed)
        data = (at / name).read_bytes()
        header = data.find(b"\n\n") + 2 if "nrrd" in name else data.find(b"LOCAL\n") + 6
        yield Seed(at.name, name, "sums" if packed else "plain", max(header, 0) if header > 6 else 0)
    small = hu[::3, ::3, ::3]
    words = " ".join(map(str, small.ravel()))
    k, j, i = small.shape
    head_lines = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {i} {j} {k}\nspacings: 7.5 7.5 7.5\nencoding: ascii\n\n"
    (at / "ascii.nrrd").write_text(head_lines + words + "\n")
    yield Seed(at.name, "ascii.nrrd", "coded", len(head_lines))


def _pictures(folder: Path) -> Iterator[Seed]:
    import tifffile
    from PIL import Image
    from xa_files import counts

    at = folder / "PNG, TIFF, JPEG, BMP"
    at.mkdir()
    frames = counts(3)
    small = (frames / 16).astype(np.uint8)
    Image.fromarray(small[2]).save(at / "grey8.png")
    Image.fromarray(frames[2]).save(at / "grey16.png")
    Image.fromarray(small[2]).convert("P").save(at / "palette.png")
    Image.fromarray(np.repeat(small[2][..., None], 3, -1)).save(at / "colour.png")
    for name in ("grey8.png", "grey16.png", "palette.png", "colour.png"):
        yield Seed(at.name, name, "sums")
    tifffile.imwrite(at / "stack.tif", frames)
    yield Seed(at.name, "stack.tif", "plain", 0)
    tifffile.imwrite(at / "deflate.tif", frames, compression="zlib")
    yield Seed(at.name, "deflate.tif", "coded", 0)
    for name, how in (("packbits.tif", "packbits"), ("pil.tif", None)):
        Image.fromarray(frames[2] if how is None else small[2]).save(at / name, compression=how)
        yield Seed(at.name, name, "coded" if how else "plain", 0)
    Image.fromarray(small[2]).save(at / "grey.jpg", quality=95)
    Image.fromarray(small[2]).save(at / "progressive.jpg", quality=95, progressive=True)
    yield Seed(at.name, "grey.jpg", "coded")
    yield Seed(at.name, "progressive.jpg", "coded")
    Image.fromarray(small[2]).save(at / "grey.bmp")
    yield Seed(at.name, "grey.bmp", "plain", 1078)


def _masks(folder: Path) -> Iterator[Seed]:
    import SimpleITK as sitk
    import tifffile
    from images.test_masks import dicom_seg, seg_nrrd
    from PIL import Image

    from DeepIterRegLib.images.files import save_volume
    from DeepIterRegLib.images.volume import Volume

    at = folder / "Masks"
    at.mkdir()
    one = (LABELS == 1).astype(np.uint8)
    save_volume(Volume(one, AFFINE), at / "mask.nii.gz")
    save_volume(Volume(one, AFFINE), at / "plain.nii")
    save_volume(Volume(np.where(one > 0, np.float32(0.9), np.float32(0.1)), AFFINE), at / "likely.nii.gz")
    yield Seed(at.name, "mask.nii.gz", "sums", 10)
    yield Seed(at.name, "plain.nii", "plain", 352)
    yield Seed(at.name, "likely.nii.gz", "sums", 10)
    seg_nrrd(at / "a.seg.nrrd")
    seg_nrrd(at / "layers.seg.nrrd", overlapping=True)
    for name in ("a.seg.nrrd", "layers.seg.nrrd"):
        yield Seed(at.name, name, "plain", (at / name).read_bytes().find(b"\n\n") + 2)
    image = sitk.GetImageFromArray(one)
    sitk.WriteImage(image, str(at / "packed.mha"), useCompression=True)
    yield Seed(at.name, "packed.mha", "sums", (at / "packed.mha").read_bytes().find(b"LOCAL\n") + 6)
    dicom_seg(at / "seg.dcm")
    dicom_seg(at / "fractional.dcm", fractional=True)
    for name in ("seg.dcm", "fractional.dcm"):
        yield Seed(at.name, name, "plain", _pixels_at(at / name))
    Image.fromarray(255 * one[5]).save(at / "seen.png")
    tifffile.imwrite(at / "seen2.tif", 255 * one[4:7])
    yield Seed(at.name, "seen.png", "sums")
    yield Seed(at.name, "seen2.tif", "plain")


def _archives(folder: Path) -> Iterator[Seed]:
    import pydicom
    from pydicom.fileset import FileSet

    at = folder / "zip and DICOMDIR"
    at.mkdir()
    for name, how in (("packed.zip", zipfile.ZIP_DEFLATED), ("stored.zip", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(at / name, "w", how) as archive:
            for file in sorted((folder / "CT" / "slices").iterdir()):
                archive.write(file, f"study/{file.name}")
        yield Seed(at.name, name, "sums")
    with zipfile.ZipFile(at / "volume.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(folder / "NIfTI, NRRD, MHA" / "packed.nii.gz", "cta.nii.gz")
    yield Seed(at.name, "volume.zip", "sums")
    files = FileSet()
    for file in sorted((folder / "CT" / "slices").iterdir()):
        ds = pydicom.dcmread(file)
        ds.StudyDate = ds.StudyTime = ds.StudyID = "1"
        ds.StudyDate, ds.StudyTime = "20260101", "100000"
        files.add(ds)
    files.write(at / "disc")
    yield Seed(at.name, "disc", "plain", 1 << 40)  # the directory alone is damaged, see `mutations`


# -- poses, points, tables, models, results ------------------------------------------------------------


def _poses(folder: Path) -> Iterator[Seed]:
    import SimpleITK as sitk

    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.geometry.pose_files import write_tfm

    at = folder / "Poses"
    at.mkdir()
    matrix = pose.matrix(pose.so3_exp(np.array([0.1, 0.2, -0.3])), np.array([1.0, 2.0, 30.0]))
    write_tfm(at / "affine.tfm", matrix)
    (at / "pose.json").write_text(json.dumps({"ctaToCarm": np.asarray(matrix).tolist(), "score": 0.4}))
    euler = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (5.0, 6.0, 7.0))
    several = sitk.CompositeTransform([euler, euler])
    for name, transform in (("euler.txt", euler), ("euler2.h5", euler), ("euler3.mat", euler), ("both.h5", several)):
        sitk.WriteTransform(transform, str(at / name))
    for file in sorted(at.iterdir()):
        yield Seed(at.name, file.name, "text")
    matrices = folder / "Matrix files"
    matrices.mkdir()
    (matrices / "matrix.txt").write_text("1.5 2 3 400\n0 1 2 300\n0.001 0 0 1\n")
    (matrices / "commas.csv").write_text("1.5,2,3,400\n0,1,2,300\n0.001,0,0,1\n")
    yield Seed(matrices.name, "matrix.txt", "text")
    yield Seed(matrices.name, "commas.csv", "text")


def _points(folder: Path) -> Iterator[Seed]:
    at = folder / "Landmarks"
    at.mkdir()
    rows = [(n, 3.5 * n, -2.0 * n * n, 5.0 + n, 10 + n, 20 + 2 * n) for n in range(6)]
    lines = ["name,x,y,z,column,row", *(f"p{n},{x},{y},{z},{c},{r}" for n, x, y, z, c, r in rows)]
    (at / "table.csv").write_text("\n".join(lines) + "\n")
    lines = ["name;x;y;z;column;row", *(f"p{n};{x};{y};{z};{c};{r}".replace(".", ",") for n, x, y, z, c, r in rows)]
    (at / "comma.csv").write_text("sep=;\n" + "\n".join(lines) + "\n", encoding="utf-16")
    fcsv = [
        "# Markups fiducial file version = 4.11",
        "# CoordinateSystem = LPS",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,",
    ]
    fcsv[-1] += "sel,lock,label,desc,associatedNodeID"
    fcsv += [f"{n},{x},{y},{z},0,0,0,1,1,1,0,F-{n},," for n, x, y, z, _, _ in rows]
    (at / "points.fcsv").write_text("\n".join(fcsv) + "\n")
    markup = {
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": [
                    {"id": str(n), "label": f"F-{n}", "position": [x, y, z], "positionStatus": "defined"}
                    for n, x, y, z, _, _ in rows
                ],
                "display": {"selectedColor": [1.0, 0.5, 0.25]},
            }
        ]
    }
    (at / "list.mrk.json").write_text(json.dumps(markup, indent=1))
    for file in sorted(at.iterdir()):
        yield Seed(at.name, file.name, "text")


def _tables(folder: Path) -> Iterator[Seed]:
    at = folder / "Tables of cases"
    at.mkdir()
    header = "name,cta,dsa,series,phase,sid,pixel_spacing,mask_frames,contrast,cta_mask,init"
    rows = [f'case{n},a/cta.nii.gz,a/dsa.dcm,,1,1100,"0.3,0.3","1,2",dark,mask.nii.gz:2,search' for n in range(4)]
    (at / "cases.csv").write_text("\n".join([header, *rows]) + "\n")
    yield Seed(at.name, "cases.csv", "text")


def _models(folder: Path) -> Iterator[Seed]:
    from vtkmodules.vtkFiltersSources import vtkSphereSource
    from vtkmodules.vtkIOGeometry import vtkOBJWriter, vtkSTLWriter
    from vtkmodules.vtkIOLegacy import vtkPolyDataWriter
    from vtkmodules.vtkIOPLY import vtkPLYWriter
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    at = folder / "Models and centrelines"
    at.mkdir()
    sphere = vtkSphereSource()
    sphere.SetRadius(20.0)
    sphere.Update()
    for name, kind, binary in (
        ("text.ply", vtkPLYWriter, False),
        ("binary.ply", vtkPLYWriter, True),
        ("text2.stl", vtkSTLWriter, False),
        ("binary2.stl", vtkSTLWriter, True),
        ("text3.vtk", vtkPolyDataWriter, False),
        ("binary3.vtk", vtkPolyDataWriter, True),
        ("only.obj", vtkOBJWriter, None),
        ("only2.vtp", vtkXMLPolyDataWriter, None),
    ):
        writer = kind()
        writer.SetFileName(str(at / name))
        writer.SetInputData(sphere.GetOutput())
        if binary is not None:
            (writer.SetFileTypeToBinary if binary else writer.SetFileTypeToASCII)()
        writer.Write()
        yield Seed(at.name, name, "text")
    lines = [f"{n} 2 {n}.5 {2 * n} 1.0 1.5 {n - 1 if n > 1 else -1}" for n in range(1, 12)]
    (at / "tree.swc").write_text("# centreline\n" + "\n".join(lines) + "\n")
    yield Seed(at.name, "tree.swc", "text")


def _results(folder: Path) -> Iterator[Seed]:
    from xa_files import carm

    from DeepIterRegLib.registration.result import Confidence, InitRecord, Registration, StageRecord

    at = folder / "registration.json"
    (at / "result").mkdir(parents=True)
    init = InitRecord("search", True, 0.4, 0.1)
    stage = StageRecord("vessels", "zncc", 0.4, (0.1, 0.4), 1.5, 20)
    doubt = Confidence(0.9, 1.5, "accepted", ("no reason",), {"a": 1.0})
    found = Registration(
        np.eye(4), carm(), np.zeros(3), 0.4, init, (stage,), {"total": 1.0}, ("said",), {"init": "search"}, {"numpy": "2"},
        confidence=doubt,
    )  # fmt: skip
    (at / "result" / "registration.json").write_text(json.dumps(found.to_json_dict(), indent=2))
    yield Seed(at.name, "result", "text")
