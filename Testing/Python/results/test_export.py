"""Results that leave: DICOM that an independent checker accepts, films that play, and nobody named who was not asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from limits import files_of_at_most
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy import ndimage
from typer.testing import CliRunner

from DeepIterRegLib.cli import app
from DeepIterRegLib.geometry import lps_ras
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.derived import IDENTITY
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.registration.result import InitRecord, Registration, ViewRecord, content_hash
from DeepIterRegLib.results.export import film
from DeepIterRegLib.results.export.files import CAMERAS, SUFFIXES
from DeepIterRegLib.results.report import write_registration
from DeepIterRegLib.results.roadmap import burn_notice, grey_frame, over

CHECKER = shutil.which("dciodvfy")
NAME, PATIENT_ID, BIRTH, CLINIC = "SECRETSON^JANNIKEMARIE", "MRN-0451-77", "19420309", "SECRETSON CLINIC"


@dataclass(frozen=True)
class Case:
    result: Path
    dsa: Path
    cta: Path
    run: Angiogram
    registration: Registration


def write_ct(folder: Path, source: Path, study: str) -> None:
    """Every second voxel of a CT as a DICOM series of the named patient."""
    volume = load_volume(source)
    voxels = np.rint(volume.voxels[::2, ::2, ::2]).astype("<i2")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    series, frame = generate_uid(), generate_uid()
    folder.mkdir()
    for k, slab in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.PatientName, ds.PatientID, ds.Modality = NAME, PATIENT_ID, "CT"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.InstanceNumber = k + 1
        columns = affine[:3, :3] / volume.spacing_mm
        ds.ImageOrientationPatient = [f"{v:.8g}" for v in (*columns[:, 0], *columns[:, 1])]
        ds.ImagePositionPatient = [f"{v:.8g}" for v in affine[:3, 3] + affine[:3, 2] * 2 * k]
        ds.PixelSpacing = [f"{2 * s:.8g}" for s in volume.spacing_mm[1::-1]]
        ds.SliceThickness = f"{2 * volume.spacing_mm[2]:.8g}"
        ds.Rows, ds.Columns = slab.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = slab.tobytes()
        ds.save_as(folder / f"{k:03}.dcm", enforce_file_format=True)


@pytest.fixture(scope="module")
def case(patient_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The result of a registration at the truth, of files that name a patient."""
    work = tmp_path_factory.mktemp("export")
    ds = pydicom.dcmread(patient_folder / "dsa.dcm")
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = NAME, PATIENT_ID, BIRTH, "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260401", "101112", "77", "ACC-99-1"
    ds.ReferringPhysicianName, ds.InstitutionName, ds.OperatorsName = "REFERSON^DOC", CLINIC, "OPERATSON^X"
    ds.save_as(work / "dsa.dcm")
    write_ct(work / "cta", patient_folder / "cta.nii.gz", generate_uid())
    cta = load_volume(work / "cta")
    run, found = read_angiogram(work / "dsa.dcm"), read_pose(patient_folder / "truth.tfm")
    hashes = {"cta": content_hash(cta.voxels, cta.affine), "dsa": content_hash(run.frames)}
    init = InitRecord("file", True, 0.5, 0.1)
    registration = Registration(
        found, run.carm, cta.centre_mm, 0.5, init, (), {"total": 1.0}, (), {}, {}, input_hashes=hashes
    )
    (work / "result").mkdir()
    write_registration(work / "result", registration, run, load_volume(patient_folder / "arteries.nii.gz"))
    return Case(work / "result", work / "dsa.dcm", work / "cta", run, registration)


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def overlay_of(case: Case) -> np.ndarray:
    """What the report's overlay.png shows, made from the projection in the result."""
    from DeepIterRegLib.results.report.images import RED, opacity

    projection = load_volume(case.result / "projection.nii.gz").voxels[0]
    alpha = np.rint(255 * 0.75 * opacity(projection)).astype(np.uint8)
    return np.dstack([np.broadcast_to(RED.astype(np.uint8), (*alpha.shape, 3)), alpha])


# -- cameras and transform -----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["itk", *CAMERAS])
def test_each_convention_is_a_file_of_its_own(case: Case, to: str, tmp_path: Path) -> None:
    out = tmp_path / f"out{SUFFIXES[to][0]}"
    run(case.result, "--to", to, "--out", out)
    if to == "itk":
        assert read_pose(out) == pytest.approx(case.registration.cta_to_carm, abs=1e-9)
        return
    written = json.loads(out.read_text())
    expected = CAMERAS[to](case.registration.carm, case.registration.cta_to_carm)
    assert list(written) == list(expected)
    numbers = [key for key, value in expected.items() if isinstance(value, (list, float, int))]
    assert len(numbers) >= 4 or to == "diffdrr"
    for key in numbers:
        assert np.array(written[key]) == pytest.approx(np.array(expected[key]), abs=1e-9), key


def test_what_does_not_fit_is_refused(case: Case, patient_folder: Path, tmp_path: Path) -> None:
    assert "Give --dsa." in run(case.result, "--to", "mp4", "--out", tmp_path / "a.mp4", code=2)
    other = pydicom.dcmread(case.dsa)
    pixels = other.pixel_array.copy()
    pixels[2, 100, 100] += 1
    other.PixelData = pixels.tobytes()
    other.save_as(tmp_path / "other.dcm")
    text = run(case.result, "--to", "gif", "--dsa", tmp_path / "other.dcm", "--out", tmp_path / "a.gif", code=2)
    assert "is not what was registered" in text
    anyway = ("--dsa", tmp_path / "other.dcm", "--no-check", "--out", tmp_path / "any.gif")
    assert "Note: " in run(case.result, "--to", "gif", *anyway)
    as_is = ("--dsa", case.dsa, "--subtraction", "as_is")
    assert "subtracted in another way" in run(case.result, "--to", "gif", *as_is, "--out", tmp_path / "a.gif", code=2)
    dicom = (case.result, "--to", "dicom", "--dsa", case.dsa, "--out", tmp_path / "d")
    assert "is no folder" in run(*dicom, "--cta", patient_folder / "cta.nii.gz", code=2)
    assert "the DSA has" in run(*dicom, "--frame", 999, code=2)
    assert "--identify: Only the export to DICOM" in run(
        case.result, "--to", "vtk", "--identify", "--out", tmp_path / "v.json", code=2
    )
    assert "none of the endings" in run(case.result, "--to", "opencv", "--out", tmp_path / "v.txt", code=2)
    assert sorted((p.name for p in tmp_path.iterdir()), reverse=True) == ["other.dcm", "any.gif"]


def test_a_second_view_has_its_own_camera_and_pixels(case: Case, patient_folder: Path, tmp_path: Path) -> None:
    turned = case.registration.carm.turned(1)
    views = (ViewRecord("DSA 1", case.registration.carm, 0.5), ViewRecord("DSA 2", turned, 0.4))
    (tmp_path / "result").mkdir()
    text = json.dumps(replace(case.registration, views=views).to_json_dict())
    (tmp_path / "result" / "registration.json").write_text(text)
    run(tmp_path / "result", "--to", "opencv", "--view", 2, "--out", tmp_path / "two.json")
    camera = json.loads((tmp_path / "two.json").read_text())
    at = np.array(camera["P"]) @ [*case.registration.centre_cta_mm, 1.0]
    expected = turned.project(case.registration.centre_cta_mm[None], case.registration.cta_to_carm)[0]
    assert at[:2] / at[2] == pytest.approx(expected, abs=0.01)
    gif = (tmp_path / "result", "--to", "gif", "--view", 2, "--dsa", case.dsa, "--out", tmp_path / "two.gif")
    assert "projection2.nii.gz does not exist" in run(*gif, code=2)
    item = ("--item", patient_folder / "arteries.nii.gz")
    assert "could not be checked" in run(*gif, *item)
    kept = {"cta": "0", "dsa": "of another", "dsa2": case.registration.input_hashes["dsa"]}
    (tmp_path / "result" / "registration.json").write_text(
        json.dumps(replace(case.registration, views=views, input_hashes=kept).to_json_dict())
    )
    assert "could not be checked" not in run(*gif, *item, "--overwrite"), "it is the second that was registered"
    assert "is not what was registered" in run(*gif[:3], *gif[5:], *item, "--overwrite", code=2)
    assert "has 2" in run(tmp_path / "result", "--to", "vtk", "--view", 3, "--out", tmp_path / "v.json", code=2)


# -- films ---------------------------------------------------------------------------------------------------


def test_mp4_has_the_run_s_frames(case: Case, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    run(case.result, "--to", "mp4", "--dsa", case.dsa, "--out", tmp_path / "run.mp4")
    count, seconds = ffmpeg.count_frames_and_secs(str(tmp_path / "run.mp4"))
    assert count == len(case.run.frames)
    assert seconds == pytest.approx(film.frame_seconds(case.run).sum(), rel=0.2)
    reader = ffmpeg.read_frames(str(tmp_path / "run.mp4"))
    size = next(reader)["size"]
    shown = [np.frombuffer(f, np.uint8).reshape(size[1], size[0], 3) for f in reader]
    assert len(shown) == count
    expected = list(film.pictures(case.run, [overlay_of(case)] * len(case.run.frames)))
    rows, columns = case.run.carm.rows, case.run.carm.columns
    for picture, frame in zip(expected, shown, strict=True):
        assert np.abs(frame[:rows, :columns].astype(int) - picture).mean() < 6  # H.264 halves the colour's resolution


@pytest.mark.parametrize(("to", "share"), [("mp4", 0.0), ("mp4", 0.7), ("gif", 0.7)])
def test_a_film_that_the_disk_cut_is_refused(case: Case, tmp_path: Path, to: str, share: float) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    words = (case.result, "--to", to, "--dsa", case.dsa, "--out", tmp_path / f"run.{to}")
    run(*words)
    earlier = (tmp_path / f"run.{to}").read_bytes()
    with files_of_at_most(max(100, int(share * len(earlier)))):
        assert "cannot be written: File too large" in run(*words, "--overwrite", code=2)
    assert (tmp_path / f"run.{to}").read_bytes() == earlier
    assert [path.name for path in tmp_path.iterdir()] == [f"run.{to}"]


def test_an_odd_run_and_a_single_frame_become_films(case: Case, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed")
    carm = case.run.carm.cropped(0, 0, 101, 67)
    odd = Angiogram(case.run.frames[:1, :101, :67], carm, np.zeros(1), np.ones((101, 67), bool))
    film.write_mp4(tmp_path / "odd.mp4", odd, [overlay_of(case)[:101, :67]])
    assert next(ffmpeg.read_frames(str(tmp_path / "odd.mp4")))["size"] == (68, 102)
    assert ffmpeg.count_frames_and_secs(str(tmp_path / "odd.mp4"))[0] == 1


def test_gif_has_the_run_s_frames_and_times(case: Case, tmp_path: Path) -> None:
    items = ("--item", f"{case.result / 'projection.nii.gz'}")
    assert "grey values" in run(
        case.result, "--to", "gif", "--dsa", case.dsa, *items, "--out", tmp_path / "r.gif", code=2
    )
    run(case.result, "--to", "gif", "--dsa", case.dsa, "--out", tmp_path / "r.gif")
    film_ = Image.open(tmp_path / "r.gif")
    assert film_.n_frames == len(case.run.frames)  # type: ignore[attr-defined]
    durations = []
    for n, expected in enumerate(film.pictures(case.run, [overlay_of(case)] * len(case.run.frames))):
        film_.seek(n)
        durations.append(film_.info["duration"])
        assert np.abs(np.asarray(film_.convert("RGB")).astype(int) - expected).mean() < 4
    assert np.array(durations) / 1000 == pytest.approx(film.frame_seconds(case.run), abs=0.011)


def test_film_of_a_second_view_shows_that_run_with_its_own_projection(
    case: Case, patient_folder: Path, tmp_path: Path
) -> None:
    second = read_angiogram(patient_folder / "dsa2.dcm")
    carm = case.registration.carm
    hashes = {**case.registration.input_hashes, "dsa2": content_hash(second.frames)}
    views = (ViewRecord("DSA 1", carm, 0.5), ViewRecord("DSA 2", second.carm, 0.4))
    both = replace(case.registration, views=views, input_hashes=hashes)
    arteries = load_volume(patient_folder / "arteries.nii.gz")
    (tmp_path / "two").mkdir()
    write_registration(tmp_path / "two", both, (case.run, second), arteries)
    run(tmp_path / "two", "--to", "gif", "--view", 2, "--dsa", patient_folder / "dsa2.dcm", "--out", tmp_path / "2.gif")
    shown = Image.open(tmp_path / "2.gif")
    assert shown.n_frames == len(second.frames)  # type: ignore[attr-defined]
    picture = np.asarray(shown.convert("RGB")).astype(int)
    red = picture[..., 0] - picture[..., 1] > 60
    points = arteries.to_ras(arteries.set_voxels)
    pixels = np.rint(second.carm.project(points, case.registration.cta_to_carm)).astype(int)
    pixels = pixels[second.carm.contains(pixels)]
    there = np.zeros(red.shape, bool)
    there[pixels[:, 1], pixels[:, 0]] = True
    near = ndimage.binary_dilation(there, iterations=2)
    assert red.sum() > 1000
    assert (red & near).sum() > 0.97 * red.sum(), "red lies on the arteries as the second view sees them"
    assert (red & ndimage.binary_dilation(there[:, ::-1], iterations=2)).sum() < 0.8 * red.sum()


def test_every_picture_says_what_it_may_be_used_for() -> None:
    for shape in ((64, 90), (256, 256), (1024, 1000)):
        black = np.zeros((*shape, 3), np.uint8)
        seen = burn_notice(black).max(axis=-1) > 128
        rows, columns = np.nonzero(seen)
        assert len(rows) > 100
        assert rows.min() > 0.7 * shape[0]
        assert columns.max() < shape[1]  # whole in the picture


# -- DICOM ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def identified(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("identified") / "dicom"
    text = run(
        case.result, "--to", "dicom", "--dsa", case.dsa, "--cta", case.cta, "--identify", "--frame", 3, "--out", out
    )
    assert "PatientName" in text
    assert NAME not in text
    return out


@pytest.fixture(scope="module")
def anonymous(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("anonymous") / "dicom"
    run(case.result, "--to", "dicom", "--dsa", case.dsa, "--out", out)
    return out


@pytest.mark.skipif(CHECKER is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("which", ["identified", "anonymous"])
@pytest.mark.parametrize("name", ["registration.dcm", "overlay.dcm"])
def test_an_independent_checker_finds_no_errors(which: str, name: str, request: pytest.FixtureRequest) -> None:
    file = request.getfixturevalue(which) / name
    assert CHECKER is not None
    done = subprocess.run([CHECKER, "-new", str(file)], capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert "Error" not in told, told
    assert {"registration.dcm": "SpatialRegistration", "overlay.dcm": "SCImage"}[name] in told
    assert done.returncode == 0
    # The checker does object to a fault.
    broken = pydicom.dcmread(file)
    del broken.SeriesInstanceUID
    broken.save_as(file.parent.parent / "broken.dcm")
    done = subprocess.run(
        [CHECKER, "-new", str(file.parent.parent / "broken.dcm")], capture_output=True, text=True, check=False
    )
    assert "Error" in done.stdout + done.stderr


def test_spatial_registration_brings_the_cta_to_the_carm(case: Case, identified: Path) -> None:
    ds, xa = pydicom.dcmread(identified / "registration.dcm"), pydicom.dcmread(case.dsa)
    ct = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(case.cta.iterdir())]
    carm, cta = ds.RegistrationSequence
    matrices = []
    for item in (carm, cta):
        (inner,) = item.MatrixRegistrationSequence[0].MatrixSequence
        assert inner.FrameOfReferenceTransformationMatrixType == "RIGID"
        matrices.append(np.array(inner.FrameOfReferenceTransformationMatrix, float).reshape(4, 4))
    assert (matrices[0] == np.eye(4)).all()
    assert lps_ras(matrices[1]) == pytest.approx(case.registration.cta_to_carm, abs=1e-8)
    # A slice's corner, as its own header places it, meets the pixel that the registration sends it to.
    corner = matrices[1] @ [*map(float, ct[7].ImagePositionPatient), 1.0]
    first = load_volume(case.cta).to_ras(np.array([[7, 0, 0]]))
    assert case.run.carm.project(lps_ras(corner[:3])[None]) == pytest.approx(
        case.run.carm.project(first, case.registration.cta_to_carm), abs=0.01
    )
    assert carm.FrameOfReferenceUID == ds.FrameOfReferenceUID
    assert cta.FrameOfReferenceUID == ct[0].FrameOfReferenceUID
    (source,) = carm.ReferencedImageSequence
    assert source.ReferencedSOPInstanceUID == xa.SOPInstanceUID
    assert list(source.ReferencedFrameNumber) == list(range(1, int(xa.NumberOfFrames) + 1))
    assert {i.ReferencedSOPInstanceUID for i in cta.ReferencedImageSequence} == {d.SOPInstanceUID for d in ct}
    assert [s.SeriesInstanceUID for s in ds.ReferencedSeriesSequence] == [xa.SeriesInstanceUID]
    (other,) = ds.StudiesContainingOtherReferencedInstancesSequence
    assert other.StudyInstanceUID == ct[0].StudyInstanceUID
    assert len(other.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == len(ct)


def test_overlay_opens_as_the_picture_it_is(case: Case, identified: Path, anonymous: Path) -> None:
    for folder, frame in ((identified, 2), (anonymous, None)):
        expected = burn_notice(over(grey_frame(case.run, frame), overlay_of(case)))
        by_itk = sitk.ReadImage(str(folder / "overlay.dcm"))
        pixels = sitk.GetArrayFromImage(by_itk).reshape(expected.shape)
        assert np.abs(pixels.astype(int) - expected).max() <= 1
        ds = pydicom.dcmread(folder / "overlay.dcm")
        assert (ds.pixel_array == pixels).all()
        assert "Research use only" in ds.DerivationDescription
    (source,) = pydicom.dcmread(identified / "overlay.dcm").SourceImageSequence
    assert source.ReferencedFrameNumber == 3


def test_identity_is_kept_only_where_it_was_asked_for(case: Case, identified: Path, anonymous: Path) -> None:
    xa = pydicom.dcmread(case.dsa)
    ct = pydicom.dcmread(next(case.cta.iterdir()), stop_before_pixels=True)
    uids = [
        *(xa.StudyInstanceUID, xa.SeriesInstanceUID, xa.SOPInstanceUID),
        *(ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.SOPInstanceUID, ct.FrameOfReferenceUID),
    ]
    secrets = [*NAME.split("^"), PATIENT_ID, BIRTH, "20260401", "ACC-99-1", "REFERSON", "OPERATSON", CLINIC, *uids]
    for file in anonymous.iterdir():
        data = file.read_bytes()
        assert [s for s in secrets if str(s).encode() in data] == [], file.name
        assert pydicom.dcmread(file).PatientIdentityRemoved == "YES"
    for file in identified.iterdir():
        ds = pydicom.dcmread(file)
        for keyword in IDENTITY:
            assert str(ds.get(keyword, "")) == str(xa.get(keyword, "")), keyword
        data = file.read_bytes()
        assert not any(s.encode() in data for s in (CLINIC, "OPERATSON"))
        assert ds.SeriesInstanceUID != xa.SeriesInstanceUID
        assert ds.SOPInstanceUID != xa.SOPInstanceUID
    frames = {pydicom.dcmread(f / "registration.dcm").FrameOfReferenceUID for f in (identified, anonymous)}
    assert len(frames) == 2


def test_another_cta_is_refused_and_a_name_keeps_its_letters(case: Case, tmp_path: Path) -> None:
    shutil.copytree(case.cta, tmp_path / "cta")
    slice_ = pydicom.dcmread(tmp_path / "cta" / "040.dcm")
    slice_.RescaleIntercept = 1
    slice_.save_as(tmp_path / "cta" / "040.dcm")
    xa = pydicom.dcmread(case.dsa)
    xa.SpecificCharacterSet, xa.PatientName = "ISO_IR 100", "Müller^Özgür"
    del xa.PatientBirthDate, xa.AccessionNumber
    xa.save_as(tmp_path / "latin.dcm")
    command = (case.result, "--to", "dicom", "--dsa", tmp_path / "latin.dcm", "--identify")
    assert "--cta" in run(*command, "--cta", tmp_path / "cta", "--out", tmp_path / "d", code=2)
    run(*command, "--out", tmp_path / "d")
    for name in ("registration.dcm", "overlay.dcm"):
        ds = pydicom.dcmread(tmp_path / "d" / name)
        assert ds.PatientName == "Müller^Özgür"
        assert ds.PatientBirthDate == ds.AccessionNumber == ""
        if CHECKER is not None:
            done = subprocess.run([CHECKER, "-new", str(tmp_path / "d" / name)], capture_output=True, check=False)
            assert b"Error" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("stated", "kept", "told"), [("YES", "YES", "says that"), ("NO", "NO", ""), (None, None, "does not say")]
)
def test_what_nobody_knows_of_burned_in_names_is_not_said(
    case: Case, tmp_path: Path, stated: str | None, kept: str | None, told: str
) -> None:
    xa = pydicom.dcmread(case.dsa)
    if stated is not None:
        xa.BurnedInAnnotation = stated
    xa.save_as(tmp_path / "run.dcm")
    text = run(case.result, "--to", "dicom", "--dsa", tmp_path / "run.dcm", "--out", tmp_path / "d")
    assert pydicom.dcmread(tmp_path / "d" / "overlay.dcm").get("BurnedInAnnotation") == kept
    assert ("look at the overlay before it leaves" in text) == bool(told)
    assert told in text
