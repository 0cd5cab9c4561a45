"""The benchmarks' own logic, and a smoke run of each script: a benchmark that measures the wrong thing is worse than none."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration import joint
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.vessels.search import SearchSettings
from DeepIterRegLib.rendering.raycast import RaycastProjector

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Benchmarks"))

import alone
import awkward
import benchmarking
import clean
import cohort
import confidence_judged
import confidence_subtracted
import end_to_end
import exact
import experiments
import gpu_kernels
import gpu_page
import moving_frames
import outcomes
import panel
import paper_preset
import progress
import real_vessels
import renderer
import robustness

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")


@pytest.fixture
def options(tmp_path: Path) -> benchmarking.Options:
    return benchmarking.Options(None, 1, False, True, tmp_path, "test")


@pytest.fixture(scope="module")
def ball() -> Volume:
    """A hollow ball of 20 mm in voxels of 1.0 x 1.1 x 1.3 mm: sparse, as vessels are."""
    k, j, i = np.ogrid[-20:21, -22:23, -24:25]
    r = np.sqrt((1.3 * k) ** 2 + (1.1 * j) ** 2 + (1.0 * i) ** 2)
    affine = np.diag([1.0, 1.1, 1.3, 1.0])
    affine[:3, 3] = (5, -30, 40)
    return Volume(((r > 17) & (r < 20) & (i > -8)).astype(np.uint8), affine)


# -- cases and statistics ----------------------------------------------------------------------------


def test_interrupted_run_goes_on_where_it_stopped(options: benchmarking.Options) -> None:
    done = []

    def work(case: benchmarking.Case) -> benchmarking.Result:
        if case["seed"] == 2 and len(done) < 3:
            done.append("stopped")
            raise KeyboardInterrupt
        done.append(case["seed"])
        return {"value": case["seed"] * 1.5}

    cases = [{"seed": n} for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        benchmarking.run_cases("x", cases, work, {"a": 1}, options)
    with (options.results / "x.jsonl").open("a") as file:
        file.write('{"case": {"seed": 3}, "settin')  # torn by the interruption
        file.write("\n")
    records = benchmarking.run_cases("x", cases, work, {"a": 1}, options)
    assert done == [0, 1, "stopped", 2, 3]
    assert [record["value"] for record in records] == [0, 1.5, 3, 4.5]
    benchmarking.run_cases("x", cases, work, {"a": 1}, options)
    assert len(done) == 5
    benchmarking.run_cases("x", cases[:1], work, {"a": 2}, options)
    assert len(done) == 6, "other settings are measured anew"


def test_processes_get_their_share_of_the_cores(options: benchmarking.Options, monkeypatch: Any) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    with benchmarking.threads_per_process(2):
        assert benchmarking.os.environ["NUMBA_NUM_THREADS"] == str(max(1, benchmarking.cores() // 2))
    assert benchmarking.os.environ["NUMBA_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in benchmarking.os.environ or benchmarking.os.environ["OMP_NUM_THREADS"]


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (95, 100), (100, 100), (1, 3)])
def test_wilson_interval_against_scipy(successes: int, n: int) -> None:
    interval = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert outcomes.wilson(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_cause_of_a_failure() -> None:
    record = {"stage_score": 0.4, "truth_score": 0.3, "from_truth_score": 0.5, "from_truth_mpe_mm": 1.0}
    assert outcomes.cause(record) == "search"
    assert outcomes.cause({**record, "from_truth_mpe_mm": 20.0}) == "similarity"
    assert outcomes.cause({**record, "truth_score": 0.45, "from_truth_mpe_mm": 20.0}) == "search"
    assert outcomes.cause({"error": "No vessels."}) == "refused: No vessels."


def test_a_refused_case_counts_as_failure() -> None:
    refused = {"case": {"seed": 1}, "mpe_before_mm": 50.0, "error": "No vessels."}
    good = {"case": {"seed": 2}, "mpe_before_mm": 40.0, "mpe_mm": 0.5, "seconds": 3.0}
    assert "1 of 2 (50 %)" in outcomes.summary([refused, good], 0.95, 1.0)
    assert "No vessels." in outcomes.failures([refused, good])
    assert outcomes.failures([good]) == "No failures."


def test_cohort_counts_refusals_and_names_failures() -> None:
    good = {"mpe_mm": 0.5, "mpe_at_peak_mm": 0.9, "mtre_mm": 0.8, "depth_mm": 0.2, "seconds": 3.0}
    far = {**good, "mpe_mm": 20.0, "depth_mm": 9.0}
    facts = {"first": "AP", "injection": "left_ica"}
    patients = {"occluded": {**facts, "one": {"error": "No vessels."}, "two": good}}
    records = [
        {"case": {"seed": 1}, "rows": patients},
        {"case": {"seed": 2}, "rows": {"occluded": {**facts, "one": far, "two": good}}},
    ]
    text = cohort.rows_of(cohort.by_row(records))
    one, two = (re.sub(" +", " ", line) for line in text.splitlines() if line.startswith("| occluded"))
    assert "| occluded | one | 0 of 2 | 0 to 66 % |" in one
    assert "95 %: **missed**" in one
    assert "| 2 of 2 |" in two
    assert "99 %: reached; depth 1 mm: reached" in two
    assert "one territory" not in text
    listed = cohort.failures(cohort.by_row(records))
    assert "refused" in listed
    assert "20.0" in listed
    assert cohort.failures(cohort.by_row(records[:0])) == "No failures."


def test_confidence_is_judged_on_what_was_not_refused_with_the_skull_and_alone() -> None:
    found, refused = {"mpe_mm": 0.5, "predicted": {"vessels": [0.9, 1.0]}}, {"error": "No pose."}
    records = [
        {"case": {"seed": 1}, "rows": {"occluded": {"one": found, "two": refused, "off": found}}},
        {"case": {"seed": 1, "alone": True}, "rows": {"occluded": {"one": found, "two": found, "stranger": refused}}},
    ]
    kinds = confidence_judged.BY_DEFAULT
    together = confidence_judged.registrations(records, {**kinds, **confidence_judged.STARTED_OFF}, alone=False)
    assert [row["kind"] for row in together] == ["one view", "one view, started off"]
    alone = confidence_judged.registrations(records, kinds, alone=True)
    assert [(row["row"], row["kind"]) for row in alone] == [("occluded", "one view"), ("occluded", "two views")]


# -- what the scripts compare is the same thing ----------------------------------------------------------


def test_only_rays_that_cannot_hit_are_left_out(ball: Volume) -> None:
    carm = CArm.from_angles(20, 10, sid_mm=1100, sod_mm=740, rows=60, columns=50, pixel_spacing_mm=(1.1, 1.3))
    mask = ball.with_voxels(ball.voxels != 0)
    centre = mask.centre_mm
    turn = pose.euler_deg_to_rotation(np.array([10.0, 25.0, -5.0]))
    cta_to_carm = pose.offset_about(pose.radiological(centre), centre, turn, np.array([12.0, 5.0, -20.0]))
    whole = RaycastProjector(mask, carm)(torch.as_tensor(cta_to_carm)[None])[0].numpy()
    image = real_vessels.ray_cast(mask, carm, cta_to_carm)
    np.testing.assert_array_equal(image, whole)
    assert 0.05 < (image == 0).mean() < 0.95


def test_one_side_of_the_arteries_is_by_the_patient_not_by_the_grid(ball: Volume) -> None:
    mask = ball.with_voxels(ball.voxels != 0)
    flipped = Volume(mask.voxels[:, :, ::-1], mask.affine @ np.diag([-1, 1, 1, 1]))
    for volume in (mask, flipped):
        right, left = (real_vessels.one_side(volume, side).voxels for side in ("right", "left"))
        assert not (right & left).any()
        x_right, x_left = (volume.to_ras(np.argwhere(half))[:, 0] for half in (right, left))
        assert x_right.min() > x_left.max()


@linux
@pytest.mark.parametrize("name", renderer.RENDERERS)
def test_renderers_show_the_same_image(name: str, ball: Volume, tmp_path: Path) -> None:
    if name.startswith("diffdrr_") and not (find_spec("torchio") and find_spec("fastcore")):
        pytest.skip("DiffDRR's own class needs torchio and fastcore: pip install -e .[bench]")
    if name == "nanodrr" and not (find_spec("nanodrr") and find_spec("roma")):
        pytest.skip("nanodrr is not installed: pip install -e .[bench]")
    if name == "rtk_joseph" and not find_spec("itk"):
        pytest.skip("RTK is not installed: pip install -e .[bench]")
    if name == "plastimatch" and not shutil.which("plastimatch"):
        pytest.skip("plastimatch is not installed: apt-get install plastimatch")
    np.savez(tmp_path / "volume.npz", voxels=ball.voxels, affine=ball.affine)
    figures = renderer.measure_one(name, tmp_path, 128, 0.0)
    assert all(figures[kind]["seconds"] > 0 for kind in figures if kind != "peak_mb")
    reference = RaycastProjector(ball, renderer.view(128))(torch.as_tensor(renderer.pose_of(ball))[None])[0].numpy()
    assert renderer._agreement(np.load(tmp_path / f"{name}.npy"), reference) > 0.99


# -- the same seed, the same pose ------------------------------------------------------------------------


def test_same_seed_gives_the_same_pose_bit_for_bit(patient_folder: Path) -> None:
    """The default levels, in a small box so that it takes seconds; segmentation of the run included."""
    cta, angiogram = load_volume(patient_folder / "cta.nii.gz"), read_angiogram(patient_folder / "dsa.dcm")
    vessels = load_volume(patient_folder / "arteries.nii.gz")
    settings = RegistrationSettings(search=SearchSettings(rotation_deg=10, translation_mm=10), seed=3)
    first, second = (register(cta, angiogram, settings, cta_mask=vessels) for _ in range(2))
    assert first.cta_to_carm.tobytes() == second.cta_to_carm.tobytes()
    assert first.score == second.score
    assert [stage.scores for stage in first.stages] == [stage.scores for stage in second.stages]


# -- smoke runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [robustness, clean], ids=lambda script: script.__name__)
def test_phantom_benchmarks_run(script: ModuleType, tmp_path: Path) -> None:
    script.main(["--small", "--limit", "1", "--jobs", "1", "--results", str(tmp_path)])
    name = script.__name__
    (line,) = (tmp_path / f"{name}.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["mpe_mm"] >= 0
    assert 0 <= record["near_truth"] <= 1
    text = (tmp_path / f"{name}.md").read_text()
    assert "Commit:" in text
    assert "Small trial" in text
    assert (tmp_path / f"{name}.png").stat().st_size > 1000


def test_moving_frames_run(tmp_path: Path) -> None:
    moving_frames.main(["--small", "--results", str(tmp_path)])
    text = (tmp_path / "moving_frames.md").read_text()
    assert "Small trial" in text
    assert re.search(r"raw, as the detector saw it \| head's pose", text)


def test_runs_without_a_mask_frame_are_registered(tmp_path: Path, monkeypatch: Any) -> None:
    default = RegistrationSettings.preset("default")
    search = replace(default.search, rotation_deg=10, translation_mm=10, candidates=8, levels=default.search.levels[:1])
    quick = partial(replace, default, search=search)  # the scripts, not the pose
    monkeypatch.setattr(RegistrationSettings, "preset", lambda name, **changes: quick(**changes))
    monkeypatch.setattr(joint, "COARSE", replace(joint.COARSE, points=2000, iterations=2))
    made = []
    monkeypatch.setattr(alone, "make", lambda *of, make=alone.make: made.append(make(*of)) or made[-1])
    alone.main(["--small", "--limit", "1", "--results", str(tmp_path)])
    (line,) = (tmp_path / "alone.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["one"].keys() == record["two"].keys()
    text = (tmp_path / "alone.md").read_text()
    assert re.search(r"few vessels +\| one +\| [01] of 1", text)
    assert "Small trial" in text
    (patient,) = made
    wrong = confidence_subtracted.climbed(patient, 1, cohort.off(patient, 25.0, np.random.default_rng(0)))
    assert wrong["mpe_mm"] > 5
    assert wrong["features"]["residue_score"] < 1
    monkeypatch.setattr(cohort, "make", lambda *of: patient)
    monkeypatch.setattr(exact, "WAYS", dict.fromkeys(exact.WAYS, "search"))
    exact.main(["--small", "--limit", "1", "--results", str(tmp_path)])
    text = (tmp_path / "exact.md").read_text()
    assert re.search(r"one territory +\| two +\| vessels alone +\| [01] of 1", text)


def test_real_vessels_run_or_say_why_not(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("DEEPITERREG_SHARED_DATA", str(tmp_path / "absent"))
    real_vessels.main(["--results", str(tmp_path)])
    assert "skipped" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.md"))


@linux
def test_end_to_end_and_paper_preset_run(patient_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(end_to_end, "patient", lambda kind, fresh: (patient_folder, "1 x 1 x 1"))
    end_to_end.main(["--small", "--results", str(tmp_path)])
    assert "peak memory" in (tmp_path / "end_to_end.md").read_text()
    paper_preset.main(["--small", "--limit", "1", "--results", str(tmp_path)])
    text = (tmp_path / "paper_preset.md").read_text()
    assert text.count("extrapolated") >= 6


def test_awkward_input_is_typed_and_judged(patient_folder: Path, monkeypatch: Any) -> None:
    """One that is refused, so that it takes seconds; the table says what was said, and marks what ended otherwise."""
    monkeypatch.setattr(awkward, "patient", lambda small: patient_folder)
    record = {"case": {"name": "nifti_cut"}, **awkward.run_case({"name": "nifti_cut"})}
    assert (record["got"], record["problems"]) == ("refused", [])
    row = awkward.rows_of([record, {**record, "problems": ["not said"]}])
    assert "cut short" in row
    assert "refused **not said**" in row


def test_how_a_bar_is_judged() -> None:
    """One that stands for half of the time and then jumps to the end; one that keeps time in tenths."""
    half = progress.judged(np.array([0.0, 0.5]), np.array([0.0, 1.0]))
    assert half == pytest.approx({"off": 0.5, "still": 0.5})
    tenths = np.arange(1, 11) / 10
    assert progress.judged(tenths, tenths) == pytest.approx({"off": 0.1, "still": 0.1})
    assert progress.judged(tenths, tenths / 2)["off"] == pytest.approx(0.55)  # never full


def test_progress_runs(patient_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(progress, "patient", lambda kind, fresh: (patient_folder, "1 x 1 x 1"))
    progress.main(["--small", "--limit", "1", "--results", str(tmp_path)])
    text = (tmp_path / "progress.md").read_text()
    assert "longest standstill" in text
    assert re.search(r"bar goes back +\| 0\.000 +\| 0 +\| reached", text)
    assert re.search(r"bar at the end +\| 1\.000 +\| 1 +\| reached", text)


@linux
def test_panel_runs(patient_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("PySide6", reason="PySide6-Essentials is not installed: pip install .[slicer]")
    monkeypatch.setattr(panel, "patient", lambda kind, fresh: (patient_folder, "1 x 1 x 1"))
    panel.main(["--small", "--results", str(tmp_path)])
    text = (tmp_path / "panel.md").read_text()
    assert "updates of the manual adjustment" in text
    assert "C-arm in the 3D view" in text


def test_page_of_experiments_shows_each_comparison_and_picture(tmp_path: Path) -> None:
    """From the summaries on record; and the page in the repository is the one that they give."""
    on_record = experiments.RESULTS
    shutil.copytree(on_record, tmp_path, dirs_exist_ok=True)
    page = experiments.write_page(tmp_path).read_text(encoding="utf-8")
    assert page == (on_record / "README.md").read_text(encoding="utf-8"), "run experiments.py --page"
    summaries = list(on_record.glob("*/summary.json"))
    assert summaries
    for file in summaries:
        values = json.loads(file.read_text(encoding="utf-8"))
        assert all(row["paper"] in page and row["here"] in page for row in values["comparison"])
    pictures = list(on_record.glob("*/*.png"))
    linked = [tmp_path / link for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)]
    assert len(linked) == len(pictures)
    assert all(link.exists() for link in linked)


def test_what_runs_on_a_card_is_tried_without_one(tmp_path: Path) -> None:
    """A card can be had for minutes: its script must not fail there for a slip."""
    out = tmp_path / "kernels.jsonl"
    with pytest.raises(SystemExit) as ended:
        gpu_kernels.main(["--device", "cpu", "--small", "--out", str(out)])
    assert ended.value.code == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert all(line["ok"] for line in lines if "check" in line)
    assert any("exhaustive pass" in line.get("what", "") for line in lines)


def test_the_page_of_a_card_is_what_its_lines_say(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(Path, "write_text", lambda self, text, **_: written.append(text))
    gpu_page.main()
    assert written == [(gpu_page.RESULTS / "gpu.md").read_text(encoding="utf-8")]


def test_each_table_of_results_is_linked() -> None:
    folder = Path(experiments.__file__).parent
    text = (folder / "README.md").read_text(encoding="utf-8")
    missing = [file.name for file in (folder / "results").glob("*.md") if f"(results/{file.name})" not in text]
    assert not missing
