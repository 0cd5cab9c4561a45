"""The report: complete, self-contained, and its controls do what they say in a real browser."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from programs import BROWSER, probed

import helix
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.geometry.view_names import view_direction
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.result import Confidence, Registration, StageRecord
from DeepIterRegLib.results.report import REGISTRATION_FILES, detector_image, vessel_projection, write_registration
from DeepIterRegLib.results.report.curves import bars_svg, curve_svg, level_names
from DeepIterRegLib.results.report.page import flat, offset_from, words

FRAMES = 6


@pytest.fixture(scope="module")
def case() -> tuple[Registration, Angiogram, Volume]:
    carm = CArm.from_angles(90, 0, sid_mm=1200, sod_mm=750, rows=200, columns=240, pixel_spacing_mm=(1.0, 1.0))
    registration, angiogram, vessels = helix.registered(carm, np.array([0.0, 0.2, 0.6, 1.0, 0.5, 0.1]))
    registration = replace(
        registration,
        warnings=("Only 60 % of the vessels are in the picture & more </script>.",),
        settings={**registration.settings, "box_mm": [40.0, 40.0, 40.0], "refine": {"rate": 4096}},
        mpe_mm_to_reference=0.42,
    )
    return registration, replace(angiogram, notes=("Frame times assumed <regular>.",)), vessels


@pytest.fixture(scope="module")
def folder(case: tuple[Registration, Angiogram, Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out")
    write_registration(path, *case)
    return path


@pytest.fixture(scope="module")
def rejected(case: tuple[Registration, Angiogram, Volume], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, but not to be trusted."""
    path = tmp_path_factory.mktemp("rejected")
    doubt = Confidence(0.004, 23.4, "rejected", ("Only 41 % of the DSA's vessels lie on <vessels> of the CTA.",))
    write_registration(path, replace(case[0], confidence=doubt), *case[1:])
    return path


# -- pictures ----------------------------------------------------------------------------------------


def test_projection_of_a_slab_is_its_thickness_along_the_ray() -> None:
    """A 40 mm cube about the isocentre, seen AP: thickness x sqrt(1 + tan^2) inside its shadow, and no holes."""
    voxels = np.zeros((60, 60, 60), bool)
    voxels[10:50, 10:50, 10:50] = True
    affine = np.eye(4)
    affine[:3, 3] = -29.5
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=101, columns=101, pixel_spacing_mm=(0.5, 0.5))
    image = vessel_projection(Volume(voxels, affine), carm, np.eye(4))
    v, u = np.mgrid[-50:51, -50:51] * 0.5 / 1200
    exact = 40 * np.sqrt(1 + u**2 + v**2)
    inside = np.s_[5:-5, 5:-5]
    # Bilinear splatting of a lattice up to a pixel apart ripples by aliasing: at most twice the first side lobe of
    # sinc^2 (0.047) on each axis, higher lobes adding less than a third of that; both axes: (1 + 0.094 * 4 / 3)^2 - 1.
    assert np.abs(image[inside] / exact[inside] - 1).max() < 0.27
    assert np.isfinite(image).all()
    assert abs(image[inside].mean() / exact[inside].mean() - 1) < 1e-3


def test_overlay_is_red_where_the_vessels_are(folder: Path, case: tuple[Registration, Angiogram, Volume]) -> None:
    registration, angiogram, vessels = case
    picture = np.asarray(Image.open(folder / "overlay.png")).astype(int)
    shadow = vessel_projection(vessels, registration.carm, registration.cta_to_carm)
    redness = picture[..., 0] - picture[..., 1]
    assert picture.shape == (*angiogram.valid.shape, 3)
    assert redness[shadow > 2].min() > 40
    assert (redness[shadow == 0] == 0).all()


def test_projection_file_stands_at_the_detector(folder: Path, case: tuple[Registration, Angiogram, Volume]) -> None:
    """Its pixels, mapped to RAS by SimpleITK, project back onto themselves through the C-arm."""
    registration = case[0]
    image = sitk.ReadImage(str(folder / "projection.nii.gz"))
    assert image.GetSize() == (240, 200, 1)
    for column, row in ((0, 0), (239, 0), (17, 181)):
        x, y, z = image.TransformIndexToPhysicalPoint((column, row, 0))
        pixel = registration.carm.project(np.array([[-x, -y, z]]))[0]
        assert pixel == pytest.approx((column, row), abs=1e-3)


def test_mirrored_view_gives_a_right_handed_slice() -> None:
    carm = CArm.from_angles(0, 0, sid_mm=1200, sod_mm=750, rows=4, columns=6, pixel_spacing_mm=(1, 1)).mirrored()
    assert np.linalg.det(detector_image(np.zeros((4, 6)), carm).affine[:3, :3]) > 0


# -- words and numbers -------------------------------------------------------------------------------


def test_offsets_are_those_that_were_applied(case: tuple[Registration, Angiogram, Volume]) -> None:
    registration = case[0]
    start = pose.radiological(registration.centre_cta_mm)
    turn, shift = offset_from(start, registration.cta_to_carm, registration.centre_cta_mm)
    assert turn == pytest.approx(helix.TURN_DEG)
    assert shift == pytest.approx(helix.SHIFT_MM)


def test_nested_settings_become_one_table() -> None:
    assert flat({"a": 1, "b": {"c": [1, 2]}, "s": [{"x": 3}]}) == {"a": "1", "b.c": "1, 2", "s[0].x": "3"}
    assert words("segment_cta") == "Segment CTA"


def test_curves_survive_odd_traces() -> None:
    assert curve_svg((), "none") == ""
    assert curve_svg((float("nan"),), "none") == ""
    for scores in ((0.5,), (0.5, 0.5), (float("-inf"), 0.1, 0.2), tuple(np.linspace(0, 1, 5000))):
        svg = curve_svg(scores, "some")
        assert "nan" not in svg
        assert "inf" not in svg
        assert len(svg) < 20_000


def test_levels_are_bars_with_names_and_not_joined() -> None:
    """Heights are as the values from 0, also below it; a stage with a score an iteration has no levels."""
    settings = {"search": {"rows": 96, "levels": [{"rows": 128}]}, "levels": [{"rows": 256}, {"rows": 384}]}
    stage = StageRecord("MinIP", "directed correlation", 0.5, (0.6, 0.5), 1.0, 13)
    assert level_names(stage, settings) == ["256 rows", "384 rows"]
    assert level_names(replace(stage, name="Search"), settings) == ["96 rows", "128 rows"]
    assert level_names(replace(stage, name="Search"), {}) == ["level 1", "level 2"]
    assert level_names(replace(stage, iterations=2), settings) == []
    for scores in ((0.6, 0.5), (7.0, 4.0, 5.0), (-0.2, 0.1), (-0.2, -0.1), (0.0, 0.0)):
        svg = bars_svg(scores, [f"level {n}" for n in range(len(scores))], "some")
        heights = np.array(re.findall(r' height="([0-9.]+)"', svg), dtype=float)
        tops = np.array(re.findall(r'<rect[^>]* y="([0-9.]+)"', svg), dtype=float)
        zero = float(re.findall(r'y1="([0-9.]+)"', svg)[0])
        longest = max(np.abs(scores).max(), 1e-9)
        assert heights / max(heights.max(), 1e-9) == pytest.approx(np.abs(scores) / longest, abs=0.01)
        assert tops == pytest.approx(np.where(np.array(scores) > 0, zero - heights, zero), abs=0.11)
        assert "polyline" not in svg
        assert svg.count("level") == len(scores)


# -- page --------------------------------------------------------------------------------------------


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_all_files_are_there(folder: Path, case: tuple[Registration, Angiogram, Volume]) -> None:
    registration = case[0]
    assert sorted(p.name for p in folder.iterdir()) == sorted(REGISTRATION_FILES)
    assert read_pose(folder / "ctaToCarm.tfm") == pytest.approx(registration.cta_to_carm)
    assert read_pose(folder / "registration.json") == pytest.approx(registration.cta_to_carm)
    back = Registration.from_json_dict(json.loads((folder / "registration.json").read_text(encoding="utf-8")))
    assert back.to_json_dict() == registration.to_json_dict()


def test_page_is_self_contained_and_says_what_it_must(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = _Links()
    links.feed(page)
    assert links.addresses == []
    assert not re.search(r"https?://|@import|url\(", page)
    assert "Research use only. Not a medical device." in page
    assert "0.812" in page or "0.813" in page
    assert "0.42" in page
    assert re.findall(r">(\d+ rows)<", page) == ["96 rows", "128 rows", "192 rows"]
    assert page.count("<polyline") == 1
    assert "refine.rate" in page
    assert "picture &amp; more &lt;/script&gt;" in page
    assert "assumed &lt;regular&gt;" in page
    assert len(page) < 6_000_000


@pytest.mark.parametrize("lao_deg", [21, 26, 27])
def test_page_and_result_call_a_view_alike(lao_deg: float, tmp_path: Path) -> None:
    carm = CArm.from_angles(lao_deg, 0, sid_mm=1200, sod_mm=750, rows=40, columns=48, pixel_spacing_mm=(5.0, 5.0))
    registration, angiogram, vessels = helix.registered(carm, np.array([1.0]))
    write_registration(tmp_path, registration, angiogram, vessels)
    said = re.search(rf"(\w+) view, LAO {lao_deg}", (tmp_path / "report.html").read_text(encoding="utf-8"))
    assert said is not None
    assert said.group(1).lower() == view_direction(carm).lower()  # as `ViewRecord.name` has it


def test_confidence_is_said_with_its_reasons(
    folder: Path, rejected: Path, case: tuple[Registration, Angiogram, Volume], tmp_path: Path
) -> None:
    page = (rejected / "report.html").read_text(encoding="utf-8")
    assert '<p class="badge">rejected</p>' in page
    assert "<b>under 1 %</b>" in page
    assert "expected error" not in page  # of a wrong pose none is known
    assert "lie on &lt;vessels&gt; of the CTA." in page
    assert 'id="show-anyway"' in page
    sure = replace(case[0], confidence=Confidence(0.996, 0.8, "accepted", (), error_95_mm=(0.3, 1.9)))
    write_registration(tmp_path, sure, *case[1:])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>over 99 %</b>" in page
    assert "expected error 0.8 mm (0.3 to 1.9 mm in 95 %)." in page
    assert 'id="show-anyway"' not in page
    assert 'class="badge"' not in (folder / "report.html").read_text(encoding="utf-8")  # files of earlier versions
    # the picture beside a rejected report says so too
    red_band = np.asarray(Image.open(rejected / "overlay.png")).astype(int)[1, -5]
    assert red_band[0] - red_band[1] > 100
    assert len(set(np.asarray(Image.open(tmp_path / "overlay.png"))[1, -5].tolist())) == 1


def test_a_long_large_run_keeps_the_page_small(case: tuple[Registration, Angiogram, Volume], tmp_path: Path) -> None:
    registration, _, vessels = case
    carm = registration.carm.resampled(600, 720)
    noise = np.random.default_rng(2).normal(size=(4, 600, 720)).astype(np.float32)
    frames = np.concatenate([noise] * 20)
    angiogram = Angiogram(frames, carm, np.arange(80) / 4, np.ones((600, 720), bool))
    write_registration(tmp_path, replace(registration, carm=carm), angiogram, vessels)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "48 of 80 frames" in page
    assert len(page) < 6_000_000


# -- the page in a browser ---------------------------------------------------------------------------

PROBE = """
<script>
(async () => {
  while (document.body.dataset.ready !== "yes") await new Promise((done) => setTimeout(done, 20));
  const canvas = document.getElementById("view");
  const set = (id, value) => {
    const input = document.getElementById(id);
    if (input.type === "checkbox") input.checked = value; else input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const pick = (name, value) => document.querySelector(`input[name="${name}"][value="${value}"]`).click();
  const seen = {};
  const look = (name) => {
    const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let red = 0, grey = 0, coloured = 0;
    for (let i = 0; i < rgba.length; i += 4) {
      red += rgba[i] - rgba[i + 1];
      grey += rgba[i + 1];
      coloured += rgba[i] - rgba[i + 1] > 20;
    }
    const n = rgba.length / 4;
    seen[name] = { red: red / n, grey: grey / n, coloured, stamp: document.getElementById("stamp").textContent };
  };
  look("start");
  set("alpha", 20); look("faint");
  set("alpha", 0); look("clear");
  set("alpha", 100); look("full");
  set("outline", true); look("outline"); set("outline", false);
  set("tint", false); look("untinted"); set("tint", true);
  pick("pose", "radiological"); look("before");
  pick("pose", "none"); look("hidden");
  set("brightness", -60); look("dark");
  document.getElementById("reset").click(); look("reset");
  pick("pose", "none");
  pick("source", "frame"); set("frame", 3); look("frame4");
  set("frame", 0); look("frame1");
  pick("source", "minip"); set("last", 0); look("minip1");
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true })); look("key");
  tellTest(JSON.stringify(seen));
})();
</script>
</body>"""


REJECTED_PROBE = """
<script>
(async () => {
  while (document.body.dataset.ready !== "yes") await new Promise((done) => setTimeout(done, 20));
  const canvas = document.getElementById("view");
  const look = () => {
    const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let red = 0;
    for (let i = 0; i < rgba.length; i += 4) red += rgba[i] - rgba[i + 1];
    return { red: red / rgba.length, covered: !document.getElementById("cover").hidden };
  };
  const seen = { start: look() };
  document.getElementById("show-anyway").click(); seen.shown = look();
  document.getElementById("reset").click(); seen.reset = look();
  tellTest(JSON.stringify(seen));
})();
</script>
</body>"""


def in_browser(folder: Path, probe: str, tmp_path: Path) -> dict[str, dict[str, object]]:
    """What a script added to the report finds in a real browser."""
    found: dict[str, dict[str, object]] = json.loads(probed(folder / "report.html", probe, tmp_path))
    return found


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_rejected_overlay_is_shown_only_to_those_who_ask(rejected: Path, tmp_path: Path) -> None:
    seen = in_browser(rejected, REJECTED_PROBE, tmp_path)
    assert seen["start"] == {"red": 0, "covered": True}
    assert seen["shown"]["red"] > 0
    assert not seen["shown"]["covered"]
    assert seen["reset"] == seen["start"]


# The picture and its columns in narrow windows and in wide ones; what does not fit its card is cut off or lies over the next.
TOO_WIDE_PROBE = """
<script>
const found = {};
for (const width of [400, 600, 860, 1000, 1123, 1400, 1800]) {
  document.documentElement.style.width = `${width}px`;
  const cards = [...document.querySelectorAll(".card")];
  found[width] = { cards: cards.length, wide: cards.filter((c) => c.scrollWidth > c.clientWidth).map((c) => c.innerText) };
}
tellTest(JSON.stringify(found));
</script>
</body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_cards_hold_what_stands_in_them(folder: Path, tmp_path: Path) -> None:
    for found in in_browser(folder, TOO_WIDE_PROBE, tmp_path).values():
        assert int(str(found["cards"])) >= 3
        assert found["wide"] == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_controls_work_in_a_browser(folder: Path, tmp_path: Path) -> None:
    seen = in_browser(folder, PROBE, tmp_path)
    red = {name: look["red"] for name, look in seen.items()}
    grey = {name: look["grey"] for name, look in seen.items()}
    assert red["clear"] == red["hidden"] == red["untinted"] == 0
    assert 0 < red["faint"] < red["start"] < red["full"]
    assert 0 < seen["outline"]["coloured"] < seen["full"]["coloured"]
    assert red["before"] > 0
    assert abs(red["before"] - red["full"]) > 1e-3
    assert grey["dark"] < grey["hidden"] - 20
    assert seen["reset"] == seen["start"]
    assert grey["frame4"] < grey["frame1"]  # contrast has arrived: darker
    assert grey["minip1"] == grey["frame1"]
    assert seen["start"]["stamp"] == f"MinIP of frames 1\u2013{FRAMES} · registered"
    assert seen["key"]["stamp"].startswith("Frame 2")
