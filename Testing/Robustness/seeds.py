"""Whole files of every kind that is read, small, from which damaged ones are made."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterator
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
    from dicom_seeds import runs, tomograms

    warnings.simplefilter("ignore")  # of pydicom, about what is made here
    seeds: list[Seed] = []
    for make in (
        runs,
        tomograms,
        _volumes,
        _pictures,
        _masks,
        _archives,
        _poses,
        _points,
        _tables,
        _models,
        _results,
        _films,
        _sessions,
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
    yield Seed(at.name, "stack.tif", "coded", 0)
    tifffile.imwrite(at / "deflate.tif", frames, compression="zlib")
    yield Seed(at.name, "deflate.tif", "coded", 0)
    for name, how in (("packbits.tif", "packbits"), ("pil.tif", None)):
        Image.fromarray(frames[2] if how is None else small[2]).save(at / name, compression=how)
        yield Seed(at.name, name, "coded", 0)
    Image.fromarray(small[2]).save(at / "grey.jpg", quality=95)
    Image.fromarray(small[2]).save(at / "progressive.jpg", quality=95, progressive=True)
    yield Seed(at.name, "grey.jpg", "coded")
    yield Seed(at.name, "progressive.jpg", "coded")
    Image.fromarray(small[2]).save(at / "grey.bmp")
    yield Seed(at.name, "grey.bmp", "plain", 1078)


def _masks(folder: Path) -> Iterator[Seed]:
    import SimpleITK as sitk
    import tifffile
    from dicom_seeds import pixels_at
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
        yield Seed(at.name, name, "plain", pixels_at(at / name))
    Image.fromarray(255 * one[5]).save(at / "seen.png")
    tifffile.imwrite(at / "seen2.tif", 255 * one[4:7])
    yield Seed(at.name, "seen.png", "sums")
    yield Seed(at.name, "seen2.tif", "coded")


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
    at = folder / "registration.json"
    (at / "result").mkdir(parents=True)
    (at / "result" / "registration.json").write_text(json.dumps(_moving().to_json_dict(), indent=2))
    yield Seed(at.name, "result", "text")


def _moving() -> Any:
    """A registration whose head moves after the first frame."""
    from xa_files import carm

    from DeepIterRegLib.geometry import pose
    from DeepIterRegLib.registration.frame_motion import FrameMotion
    from DeepIterRegLib.registration.result import Confidence, InitRecord, Registration, StageRecord, ViewRecord

    init = InitRecord("search", True, 0.4, 0.1)
    stage = StageRecord("vessels", "zncc", 0.4, (0.1, 0.4), 1.5, 20)
    doubt = Confidence(0.9, 1.5, "accepted", ("no reason",), {"a": 1.0})
    poses = np.stack([np.eye(4), pose.translation(np.array([3.0, 0.0, 0.0]))])
    frames = FrameMotion(np.array([0, 1, 1]), poses, np.zeros((2, 2, 6)) + 0.5, np.zeros((2, 2)), 3.0)
    return Registration(
        np.eye(4), carm(), np.zeros(3), 0.4, init, (stage,), {"total": 1.0}, ("said",), {"init": "search"}, {"numpy": "2"},
        views=(ViewRecord("DSA 1", carm(), 0.4, frames=frames),), confidence=doubt,
    )  # fmt: skip


def _films(folder: Path) -> Iterator[Seed]:
    """What a film is made of: a result with its projections, and the run."""
    from xa_files import counts

    from DeepIterRegLib.images.dicom.writer import write_xa
    from DeepIterRegLib.images.files import save_volume
    from DeepIterRegLib.images.volume import Volume

    at, found = folder / "Films", _moving()
    (at / "film").mkdir(parents=True)
    (at / "film" / "registration.json").write_text(json.dumps(found.to_json_dict()))
    write_xa(at / "film" / "dsa.dcm", counts(3), found.carm, np.arange(3) / 2, (0,), bits_stored=12)
    drawn = np.zeros((2, found.carm.rows, found.carm.columns), np.float32)
    drawn[0, 10:20], drawn[1, 12:22] = 2.0, 3.0
    save_volume(Volume(drawn, np.eye(4)), at / "film" / "frames.nii.gz")
    save_volume(Volume(drawn[:1], np.eye(4)), at / "film" / "projection.nii.gz")
    yield Seed(at.name, "film", "text")


def _sessions(folder: Path) -> Iterator[Seed]:
    """The folder of a session with a run, and a pose that waits for it."""
    from DeepIterRegLib.cases.handed import Handed, write_handed
    from DeepIterRegLib.cases.session_folder import Session, write_session

    at, found = folder / "Sessions", _moving()
    (at / "session" / "01").mkdir(parents=True)
    write_session(at / "session", Session("salt", "sha256:c", "p"))
    write_handed(at / "session", Handed("01", found.cta_to_carm, found.carm))
    (at / "session" / "01" / "registration.json").write_text(json.dumps(found.to_json_dict()))
    alone = {"carm": found.carm.to_dict(), "ctaToCarm": np.eye(4).tolist(), "covarianceMm2": np.eye(6).tolist()}
    motion = {"across_mm": 1.0, "along_mm": 2.0, "turn_deg": 0.5, "repositioned": False}
    run = {"runId": "r", "secondsSinceFirst": 0.0, "segment": 0, "byHand": False}
    run |= {"motionSinceTheRunBefore": motion, "alone": alone}
    (at / "session" / "01" / "run.json").write_text(json.dumps(run))
    yield Seed(at.name, "session", "text")
