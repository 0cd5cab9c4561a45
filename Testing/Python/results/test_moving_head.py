"""Faces follow a head that moves: the vessels of a frame lie where the head lay in it, and where the pose shows it if a person wants so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from programs import BROWSER, probed
from typer.testing import CliRunner

import helix
from DeepIterRegLib.cli.app import app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.dicom.writer import write_xa
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.frame_motion import FrameMotion
from DeepIterRegLib.registration.result import content_hash
from DeepIterRegLib.results.export.files import ExportJob, export_result
from DeepIterRegLib.results.report import vessel_projection, write_registration
from DeepIterRegLib.results.report.images import as_shown, layer_as_shown
from DeepIterRegLib.results.report.outputs import read_registration

SHIFT_PX = np.array([12.0, -7.0])  # column, row, of the head's picture from the fourth frame on
FRAMES = 6


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The helix, whose head moves across the beam after three frames, in a run that is subtracted already; registered at the first."""
    folder = tmp_path_factory.mktemp("moved")
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=200, columns=240, pixel_spacing_mm=(1.0, 1.0))
    registration, _, vessels = helix.registered(carm, np.ones(1))
    centre = pose.transform(registration.cta_to_carm, vessels.centre_mm[None])[0]
    depth_mm = carm.axes[2] @ (centre - np.array(carm.source_mm))
    there = pose.translation(SHIFT_PX @ carm.axes[:2] * depth_mm / carm.sid_mm) @ registration.cta_to_carm
    poses = np.stack([registration.cta_to_carm, there])
    of_frame = np.arange(FRAMES) // 3
    frames = np.stack([np.exp(-0.02 * vessel_projection(vessels, carm, poses[p])) for p in of_frame])
    write_xa(folder / "dsa.dcm", (3000 * frames).astype(np.uint16), carm, np.arange(FRAMES) / 2, (0,), bits_stored=12)
    run = read_angiogram(folder / "dsa.dcm")
    motion = FrameMotion(of_frame, poses, np.zeros((2, 2, 6)), np.stack([np.zeros(2), SHIFT_PX]), 5.1)
    view = replace(registration.views[0], carm=run.carm, frames=motion)
    hashes = {"dsa": content_hash(run.frames)}
    registration = replace(registration, carm=run.carm, views=(view,), input_hashes=hashes)
    (folder / "result").mkdir()
    write_registration(folder / "result", registration, run, vessels)
    return SimpleNamespace(folder=folder, result=folder / "result", registration=registration, vessels=vessels, run=run)


def middle(red: np.ndarray) -> np.ndarray:
    """Column and row of the centre of mass of an image (row, column)."""
    rows, columns = np.indices(red.shape)
    return np.array([(columns * red).sum(), (rows * red).sum()]) / red.sum()


def red_of(picture: np.ndarray) -> np.ndarray:
    """How red the pixels of a picture (row, column, 3) are."""
    return np.clip(picture[..., 0].astype(float) - picture[..., 1] - 40, 0, None)


def middles(film: Path) -> list[np.ndarray]:
    shown = Image.open(film)
    found = []
    for frame in range(FRAMES):
        shown.seek(frame)
        found.append(middle(red_of(np.asarray(shown.convert("RGB"))[:180])))
    return found


def export(moved: SimpleNamespace, out: Path, *words: str) -> Path:
    typed = ["export", str(moved.result), "--dsa", str(moved.folder / "dsa.dcm"), "--out", str(out), *words]
    done = CliRunner().invoke(app, typed)
    assert done.exit_code == 0, done.output
    return out


def test_a_film_follows_the_head_and_stands_still_if_asked(moved: SimpleNamespace, tmp_path: Path) -> None:
    at = middles(export(moved, tmp_path / "moving.gif", "--to", "gif"))
    assert at[2] == pytest.approx(at[0], abs=0.5)
    assert at[4] - at[1] == pytest.approx(SHIFT_PX, abs=1.5)
    still = middles(export(moved, tmp_path / "still.gif", "--to", "gif", "--still"))
    assert still[5] == pytest.approx(at[0], abs=0.5)


def test_items_follow_the_head_too(moved: SimpleNamespace, tmp_path: Path) -> None:
    from DeepIterRegLib.images.files import save_volume

    save_volume(moved.vessels, tmp_path / "vessels.nii.gz")
    item = ("--item", f"{tmp_path / 'vessels.nii.gz'}:red")
    at = middles(export(moved, tmp_path / "items.gif", "--to", "gif", *item))
    assert at[4] - at[1] == pytest.approx(SHIFT_PX, abs=1.5)


def test_a_result_of_an_earlier_version_makes_a_film(moved: SimpleNamespace, tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.mkdir()
    for name in ("projection.nii.gz", "registration.json"):
        (result / name).write_bytes((moved.result / name).read_bytes())
    values = json.loads((result / "registration.json").read_text())
    del values["views"][0]["frames"]
    (result / "registration.json").write_text(json.dumps(values))
    assert read_registration(result).views[0].frames is None
    at = middles(export(SimpleNamespace(result=result, folder=moved.folder), tmp_path / "old.gif", "--to", "gif"))
    assert at[5] == pytest.approx(at[0], abs=0.5)


def test_what_was_undone_in_a_frame_is_undone_in_its_overlay() -> None:
    picture = np.zeros((60, 80), np.float32)
    picture[20:30, 40:50] = 1
    undone = np.zeros((2, 6))
    undone[:, 0] = (3.0, -5.0)  # the detector saw it 3 rows lower and 5 columns to the left
    shown = as_shown(picture, undone)
    assert middle(shown) - middle(picture) == pytest.approx([5.0, -3.0], abs=0.01)
    layer = np.zeros((60, 80, 4), np.uint8)
    layer[20:30, 40:50] = (10, 200, 30, 128)
    moved = layer_as_shown(layer, undone)
    np.testing.assert_array_equal(moved[17:27, 45:55], layer[20:30, 40:50])
    assert moved[..., 3].sum() == layer[..., 3].sum()


@pytest.mark.parametrize("name", ["projection.nii.gz", "frames.nii.gz"])
def test_pictures_of_another_result_are_refused(moved: SimpleNamespace, tmp_path: Path, name: str) -> None:
    from DeepIterRegLib.images.files import load_volume, save_volume

    shutil.copytree(moved.result, tmp_path / "result")
    whole = load_volume(moved.result / name)
    damaged = whole.voxels.copy()
    damaged[0, 5] = np.nan
    for voxels in (damaged, whole.voxels[:, :9].copy(), np.concatenate([whole.voxels] * 2)):
        save_volume(Volume(voxels, whole.affine), tmp_path / "result" / name)
        job = ExportJob(tmp_path / "result", "gif", moved.folder / "dsa.dcm")
        with pytest.raises(InputError, match=f"{name} is not of this registration, or it is damaged"):
            export_result(job, tmp_path / "film.gif", Progress())


def test_a_film_that_cannot_follow_the_head_says_so(moved: SimpleNamespace, tmp_path: Path) -> None:
    shutil.copytree(moved.result, tmp_path / "result")
    (tmp_path / "result" / "frames.nii.gz").unlink()
    job = ExportJob(tmp_path / "result", "gif", moved.folder / "dsa.dcm")
    (said,) = export_result(job, tmp_path / "film.gif", Progress())
    assert said == "What is drawn does not follow the head, which moved: frames.nii.gz does not exist."
    assert export_result(replace(job, still=True), tmp_path / "film.gif", Progress()) == []


PROBE = """
<script>
(async () => {
  while (document.body.dataset.ready !== "yes") await new Promise((done) => setTimeout(done, 20));
  const canvas = document.getElementById("view");
  const seen = {};
  const set = (id, value) => {
    const input = document.getElementById(id);
    if (input.type === "checkbox") input.checked = value; else input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const look = (name) => {
    const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let red = 0, column = 0, row = 0;
    for (let i = 0; i < rgba.length; i += 4) {
      const r = Math.max(0, rgba[i] - rgba[i + 1] - 40), n = i / 4;
      red += r; column += r * (n % canvas.width); row += r * Math.floor(n / canvas.width);
    }
    seen[name] = [column / red, row / red];
  };
  look("minip");
  document.querySelector('input[name="source"][value="frame"]').click();
  set("frame", 0); look("first");
  set("outline", true); look("outlined first"); set("outline", false);
  set("frame", 5); look("last");
  set("outline", true); look("outlined"); set("outline", false);
  set("follow", false); look("still");
  tellTest(JSON.stringify(seen));
})();
</script>
</body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_follows_the_head(moved: SimpleNamespace, tmp_path: Path) -> None:
    seen = {
        name: np.array(at) for name, at in json.loads(probed(moved.result / "report.html", PROBE, tmp_path)).items()
    }
    assert seen["minip"] == pytest.approx(seen["first"], abs=0.5)
    assert seen["last"] - seen["first"] == pytest.approx(SHIFT_PX, abs=1.5)
    assert seen["outlined"] - seen["outlined first"] == pytest.approx(SHIFT_PX, abs=1.5)
    assert seen["still"] == pytest.approx(seen["first"], abs=0.5)


def test_the_page_says_how_far(moved: SimpleNamespace, tmp_path: Path) -> None:
    page = (moved.result / "report.html").read_text(encoding="utf-8")
    assert "The head moved by up to 5.1 mm within the run." in page
    assert "Follow the head in each frame" in page
    motion = replace(moved.registration.views[0].frames, moved_mm=0.1)
    lying = replace(moved.registration, views=(replace(moved.registration.views[0], frames=motion),))
    write_registration(tmp_path, lying, moved.run, moved.vessels)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The head lay still within the run." in page
    assert "Follow the head in each frame" not in page
    assert not (tmp_path / "frames.nii.gz").exists()
