"""Bad input and bad luck at the command line: one clear line per problem, exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import MRImageStorage, UltrasoundImageStorage
from typer.testing import CliRunner

from DeepIterRegLib.cli import EXIT_CANCELLED, EXIT_INPUT, EXIT_INTERNAL, app
from DeepIterRegLib.common.atomic_output import output_file, output_folder
from DeepIterRegLib.common.errors import InputError

_PROGRESS = re.compile(r"\d+% \d:\d\d:\d\d$")
CLI = [sys.executable, "-m", "DeepIterRegLib.cli"]


def refused(*arguments: str | Path) -> list[str]:
    """Run a command that must be refused in one process; the problems it names."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == EXIT_INPUT, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    problems = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    # What was read and assumed until then is said too.
    told = ("Error: ", "Note: ")
    others = [line for line in result.stderr.splitlines() if not line.startswith(told) and not _PROGRESS.search(line)]
    assert problems
    assert not others, others
    return [problem.removeprefix("Error: ") for problem in problems]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "room"
    folder.mkdir()
    return folder / "result"


@pytest.fixture
def cta(patient_folder: Path) -> Path:
    return patient_folder / "cta.nii.gz"


@pytest.fixture
def dsa(patient_folder: Path) -> Path:
    return patient_folder / "dsa.dcm"


def nothing_left(out: Path) -> bool:
    return list(out.parent.iterdir()) == []


def edited_dsa(dsa: Path, path: Path, edit: Callable[[pydicom.Dataset], None]) -> Path:
    dataset = pydicom.dcmread(dsa)
    edit(dataset)
    dataset.save_as(path)
    return path


def edited_volume(cta: Path, path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> Path:
    """The CTA with other voxels, on its grid."""
    source = sitk.ReadImage(str(cta))
    image = sitk.GetImageFromArray(edit(sitk.GetArrayFromImage(source)))
    image.CopyInformation(source)
    sitk.WriteImage(image, str(path))
    return path


# -- the DSA -----------------------------------------------------------------------------------------


def test_not_dicom(cta: Path, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "notes.dcm"
    file.write_text("This is not an image.")
    (problem,) = refused("register", cta, file, "--out", out)
    assert "notes.dcm" in problem
    assert "DICOM" in problem
    assert nothing_left(out)


def test_absent_files_are_both_named(out: Path) -> None:
    problems = refused("register", "/nowhere/cta.nii.gz", "/nowhere/dsa.dcm", "--out", out)
    assert any("cta.nii.gz does not exist" in p for p in problems)
    assert any("dsa.dcm does not exist" in p for p in problems)
    assert not any("nowhere" in p for p in problems)
    assert nothing_left(out)


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_truncated_pixel_data(cta: Path, dsa: Path, out: Path, tmp_path: Path, kept: float) -> None:
    data = dsa.read_bytes()
    file = tmp_path / "cut.dcm"
    file.write_bytes(data[: int(len(data) * kept)])
    problems = refused("register", cta, file, "--out", out)
    assert any("pixel" in p.lower() or "frame" in p.lower() for p in problems)
    assert nothing_left(out)


def test_zero_frames(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        dataset.NumberOfFrames = 0
        dataset.PixelData = b""

    problems = refused("register", cta, edited_dsa(dsa, tmp_path / "none.dcm", edit), "--out", out)
    assert any("frame" in p.lower() for p in problems)
    assert nothing_left(out)


def test_other_modality(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    file = edited_dsa(
        dsa, tmp_path / "us.dcm", lambda ds: ds.update({"Modality": "US", "SOPClassUID": UltrasoundImageStorage})
    )
    (problem,) = refused("register", cta, file, "--out", out)
    assert "US" in problem
    assert "XA" in problem


def test_missing_geometry_names_every_tag_and_option(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    def edit(dataset: pydicom.Dataset) -> None:
        for name in (
            "PositionerPrimaryAngle",
            "PositionerSecondaryAngle",
            "DistanceSourceToDetector",
            "DistanceSourceToPatient",
            "ImagerPixelSpacing",
        ):
            if name in dataset:
                delattr(dataset, name)

    text = "\n".join(refused("register", cta, edited_dsa(dsa, tmp_path / "bare.dcm", edit), "--out", out))
    for word in (
        "--primary-angle",
        "--secondary-angle",
        "--sid",
        "--sod",
        "--pixel-spacing",
        "(0018,1110)",
        "(0018,1111)",
    ):
        assert word in text
    assert nothing_left(out)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--sid", "40"), "--sid"),
        (("--sod", "5000"), "--sod"),
        (("--primary-angle", "700"), "--primary-angle"),
        (("--secondary-angle", "95"), "--secondary-angle"),
        (("--pixel-spacing", "-1"), "--pixel-spacing"),
        (("--pixel-spacing", "wide"), "--pixel-spacing"),
        (("--principal-point", "1,2,3"), "--principal-point"),
        (("--mask-frames", "0"), "--mask-frames"),
        (("--sid", "nan"), "--sid"),
        (("--projection-matrix", "/nowhere/p.txt"), "--projection-matrix"),
    ],
)
def test_options_out_of_range_are_named(cta: Path, dsa: Path, out: Path, options: tuple[str, str], word: str) -> None:
    assert word in "\n".join(refused("register", cta, dsa, "--out", out, *options))
    assert nothing_left(out)


# -- the CTA -----------------------------------------------------------------------------------------


def _with_nans(voxels: np.ndarray) -> np.ndarray:
    voxels = voxels.astype(np.float32)
    voxels[40:60, 40:60, 40:60] = np.nan
    return voxels


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_with_nans, ("not a number", "not numbers", "nan", "finite")),
        (lambda v: np.full_like(v, 7), ("constant", "all voxels")),
        (lambda v: np.full_like(v, -1000), ("constant", "all voxels")),
    ],
    ids=["nan", "constant", "air"],
)
def test_volumes_without_sense(
    cta: Path, dsa: Path, out: Path, tmp_path: Path, edit: Callable[[np.ndarray], np.ndarray], words: tuple[str, ...]
) -> None:
    file = edited_volume(cta, tmp_path / "odd.nii", edit)
    text = "\n".join(refused("register", file, dsa, "--out", out)).lower()
    assert any(word in text for word in words), text
    assert nothing_left(out)


def test_cta_without_head(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    """Air with a fingertip of tissue: a scan of something, not of a head."""

    def edit(voxels: np.ndarray) -> np.ndarray:
        voxels = np.random.default_rng(0).normal(-1000, 10, voxels.shape).astype(np.int16)
        voxels[80:95, 100:115, 100:115] = 40
        return voxels

    text = "\n".join(refused("register", edited_volume(cta, tmp_path / "empty.nii", edit), dsa, "--out", out))
    assert "head" in text.lower()
    assert nothing_left(out)


def test_empty_mask(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    mask = edited_volume(cta, tmp_path / "mask.nii.gz", lambda v: np.zeros_like(v, dtype=np.uint8))
    assert "empty" in "\n".join(refused("register", cta, dsa, "--out", out, "--cta-mask", mask))


def test_mask_of_another_place(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    image = sitk.ReadImage(str(cta)) > 300
    origin = np.array(image.GetOrigin())
    image.SetOrigin((origin + np.array([300.0, 0, 0])).tolist())
    sitk.WriteImage(image, str(tmp_path / "moved.nii.gz"))
    (problem,) = refused("register", cta, dsa, "--out", out, "--cta-mask", tmp_path / "moved.nii.gz")
    assert "None of the vessel mask lies within the CTA" in problem


def test_dsa_mask_of_another_size_or_empty(cta: Path, dsa: Path, out: Path, tmp_path: Path) -> None:
    for name, mask in (("small.png", np.ones((9, 9), np.uint8)), ("empty.png", np.zeros((256, 256), np.uint8))):
        sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / name))
    assert "9 x 9" in refused("register", cta, dsa, "--out", out, "--dsa-mask", tmp_path / "small.png")[0]
    assert "empty" in refused("register", cta, dsa, "--out", out, "--dsa-mask", tmp_path / "empty.png")[0]
    assert nothing_left(out)


def test_problems_of_both_files_come_together(dsa: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "cta.nii.gz").write_bytes(b"no volume")
    file = edited_dsa(dsa, tmp_path / "mr.dcm", lambda ds: ds.update({"Modality": "MR", "SOPClassUID": MRImageStorage}))
    problems = refused("register", tmp_path / "cta.nii.gz", file, "--out", out, "--init", tmp_path / "none.tfm")
    assert {word for word in ("cta.nii.gz", "MR", "none.tfm") if any(word in p for p in problems)} == {
        "cta.nii.gz",
        "MR",
        "none.tfm",
    }


# -- the output --------------------------------------------------------------------------------------


def test_existing_output_is_refused_and_untouched(cta: Path, dsa: Path, out: Path) -> None:
    out.mkdir()
    (out / "registration.json").write_text("mine")
    assert "--overwrite" in refused("register", cta, dsa, "--out", out)[0]
    (out / "thesis.doc").write_text("years of work")
    assert "thesis.doc" in refused("register", cta, dsa, "--out", out, "--overwrite")[0]
    assert sorted(p.name for p in out.iterdir()) == ["registration.json", "thesis.doc"]
    assert (out / "registration.json").read_text() == "mine"


def test_output_that_is_a_file(cta: Path, dsa: Path, out: Path) -> None:
    out.write_text("a file")
    assert "not a folder" in refused("register", cta, dsa, "--out", out)[0]
    assert "cannot be written" in refused("register", cta, dsa, "--out", out / "below")[0]
    assert out.read_text() == "a file"


def test_unwritable_output(cta: Path, dsa: Path) -> None:
    """/proc takes no folders, not even from root, to whom permissions mean nothing."""
    (problem,) = refused("register", cta, dsa, "--out", "/proc/deepiterreg/result")
    assert "cannot be written" in problem


def _limited_files() -> None:
    """In the child: no file may grow beyond 4 kB, and the kernel says so by an error, not by a signal."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("command", ["register", "project"])
def test_full_disk(patient_folder: Path, out: Path, command: str) -> None:
    """Files stop growing at 4 kB while the results are written: refused as a full disk is, and swept away."""
    cta, dsa, mask = (str(patient_folder / name) for name in ("cta.nii.gz", "dsa.dcm", "arteries.nii.gz"))
    arguments = {
        "register": [
            "register",
            cta,
            dsa,
            "--out",
            str(out),
            "--cta-mask",
            mask,
            "--init",
            str(patient_folder / "truth.tfm"),
        ],
        "project": ["project", mask, "--like", dsa, "--out", f"{out}.nii.gz"],
    }[command]
    done = subprocess.run(
        [*CLI, *arguments, "--quiet"],
        capture_output=True,
        text=True,
        preexec_fn=_limited_files,
        check=False,
    )
    assert done.returncode == EXIT_INPUT, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr
    assert nothing_left(out)


def test_full_disk_while_dicom_is_written(patient_folder: Path, out: Path) -> None:
    """The DICOM writer wraps the system's error in its own, which has no number."""
    script = f"""
import numpy as np
from DeepIterRegLib.images.dicom import read_angiogram, write_xa
from DeepIterRegLib.common.atomic_output import output_folder
carm = read_angiogram({str(patient_folder / "dsa.dcm")!r}).carm
with output_folder({str(out)!r}, ["dsa.dcm"]) as folder:
    write_xa(folder / "dsa.dcm", np.ones((2, carm.rows, carm.columns), np.uint16), carm, [0.0, 1.0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=_limited_files, check=False
    )
    assert "InputError: `out`: " in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert nothing_left(out)


def test_disk_that_fills_up_inside_the_block(tmp_path: Path) -> None:
    """The kernel's own ENOSPC, from /dev/full."""

    def fill(path: Path) -> None:
        path.symlink_to("/dev/full")
        with path.open("wb", buffering=0) as handle:
            handle.write(b"x")

    with (
        pytest.raises(InputError, match="No space left on device"),
        output_folder(tmp_path / "a" / "b", ("file",)) as folder,
    ):
        fill(folder / "file")
    with pytest.raises(InputError, match="No space left on device"), output_file(tmp_path / "f.png", (".png",)) as file:
        fill(file)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, "search"), (signal.SIGTERM, "start")])
def test_ctrl_c_in_the_middle(cta: Path, dsa: Path, out: Path, number: int, after: str) -> None:
    """Interrupted as soon as the scratch folder exists, or while the pose is searched."""
    with subprocess.Popen(
        [*CLI, "register", str(cta), str(dsa), "--out", str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    ) as process:
        deadline = time.monotonic() + 60
        while nothing_left(out) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        if after == "search":
            time.sleep(1.5)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == EXIT_CANCELLED, stderr
    assert "Cancelled; nothing was written." in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert nothing_left(out)


# -- output folders, in themselves -------------------------------------------------------------------


def test_output_folder_appears_whole_and_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "made" / "out"
    with output_folder(target, ("a", "b")) as folder:
        (folder / "a").write_text("1")
        (folder / "b").write_text("1")
        assert not target.exists()
    assert oct(target.stat().st_mode & 0o777) == oct(0o777 & ~_umask())
    with output_folder(target, ("a", "b"), overwrite=True) as folder:
        (folder / "a").write_text("2")
        assert (target / "a").read_text() == "1"
    assert [p.name for p in target.iterdir()] == ["a"]
    assert (target / "a").read_text() == "2"
    assert [p.name for p in target.parent.iterdir()] == ["out"]


def _write_and_raise(path: Path, error: type[BaseException]) -> None:
    path.write_text("2")
    raise error


def test_output_folder_left_as_it_was_on_any_error(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with output_folder(target, ("a",)) as folder:
        (folder / "a").write_text("1")
    for error in (KeyboardInterrupt, ZeroDivisionError, SystemExit):
        with pytest.raises(error), output_folder(target, ("a",), overwrite=True) as folder:
            _write_and_raise(folder / "a", error)
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_error_of_another_file_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError), output_folder(tmp_path / "out", ("a",)):
        Path("/dev/null/input").open()  # noqa: SIM115
    assert list(tmp_path.iterdir()) == []


def test_empty_existing_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out", ("a",)) as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "out" / "a").exists()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_output_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png"), output_file(tmp_path / "a.gif", (".png",)):
        pass
    with output_file(tmp_path / "a.png", (".png",)) as file:
        file.write_text("1")
    with pytest.raises(InputError, match="exists"), output_file(tmp_path / "a.png", (".png",)):
        pass
    with pytest.raises(InputError, match="is a folder"), output_file(tmp_path, ("",)):
        pass
    shutil.rmtree(tmp_path)


# -- nobody's name ------------------------------------------------------------------------------------


def test_an_exception_of_a_library_is_told_without_its_text(
    dsa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise KeyError("PatientName Doe^Jane")

    monkeypatch.setattr("DeepIterRegLib.cases.describe.describe_file", broken)
    result = CliRunner().invoke(app, ["info", str(dsa)])
    assert result.exit_code == EXIT_INTERNAL
    assert "Unexpected KeyError (test_bad_input.py:" in result.stderr
    assert "Doe" not in result.output


def test_wrong_use_is_told_without_what_was_typed(out: Path) -> None:
    for words in (["info", "/data/Doe", "Jane/cta.nii.gz"], ["info", "a.nii", "--phase", "Doe"], ["Doe"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == EXIT_INPUT
        assert "Error" in result.stderr
        assert "Doe" not in result.output
        assert "Jane" not in result.output
