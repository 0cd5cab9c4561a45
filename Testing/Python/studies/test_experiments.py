"""Measures against analytic truths, and a small run of experiments through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from DeepIterRegLib.cli import app
from DeepIterRegLib.cli.experiments import Name
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.studies.experiments import metrics
from DeepIterRegLib.studies.experiments.experiments import EXPERIMENTS
from DeepIterRegLib.studies.experiments.objects import Study, away_from, block_mean
from DeepIterRegLib.studies.experiments.paper_a.pipeline import pipeline_summary
from DeepIterRegLib.studies.experiments.paper_a.stages import REFUSED
from DeepIterRegLib.studies.experiments.paper_b.landscape import basin_width

CARM = CArm.from_angles(0, 0, sid_mm=1000, sod_mm=750, rows=100, columns=100, pixel_spacing_mm=(2.0, 2.0))
POINTS = np.random.default_rng(0).uniform(-50, 50, (200, 3))


def test_a_shift_is_its_length_in_space_and_nothing_along_the_ray() -> None:
    moved = pose.translation(np.array([3.0, 0.0, -4.0]))
    assert metrics.mtre_mm(moved, np.eye(4), POINTS) == pytest.approx(5.0)
    assert metrics.double_geodesic_mm(moved, np.eye(4), np.zeros(3), 500.0) == pytest.approx(5.0)
    centre = np.zeros((1, 3))
    along = pose.translation(np.array([0.0, 30.0, 0.0]))  # AP: the beam
    assert metrics.mrpd_mm(CARM, along, np.eye(4), centre) == pytest.approx(0.0, abs=1e-9)
    across = pose.translation(np.array([7.5, 0.0, 0.0]))  # the ray leaves the true point by 7.5 cos(atan(7.5 / 750))
    assert metrics.mrpd_mm(CARM, across, np.eye(4), centre) == pytest.approx(7.5 / np.hypot(1, 0.01))


def test_a_turn_about_the_centre_counts_with_its_lever() -> None:
    turned = pose.matrix(pose.euler_deg_to_rotation(np.array([0.0, 0.0, 10.0])), np.zeros(3))
    assert metrics.double_geodesic_mm(turned, np.eye(4), np.zeros(3), 100.0) == pytest.approx(100 * np.radians(10))
    rim = np.array([[60.0, 0.0, 0.0]])
    assert metrics.mtre_mm(turned, np.eye(4), rim) == pytest.approx(2 * 60 * np.sin(np.radians(5)))


def test_rates_and_curves() -> None:
    interval = stats.binomtest(17, 20).proportion_ci(method="wilson")
    assert metrics.wilson(17, 20) == pytest.approx((interval.low, interval.high), abs=1e-6)
    assert metrics.success_curve([0.5, 1.5, 4.0, np.inf]) == pytest.approx(
        [0.25, 0.5, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75]
    )


def test_capture_range_ends_where_the_median_leaves_the_limit() -> None:
    before = np.arange(100.0)
    after = np.where(before < 60, 1.0, np.inf)
    found = metrics.capture_range(before, after)
    assert [b.n for b in found.bins] == [10] * 10
    assert found.reach == 59.0
    assert found.bins[0].band == (1.0, 1.0)
    again = metrics.capture_range(before, np.where((before > 20) & (before < 30), 9.0, after))
    assert again.reach == 19.0, "a later good bin does not extend the range"


def test_starts_lead_to_the_truth() -> None:
    truth = pose.matrix(pose.euler_deg_to_rotation(np.array([10.0, -20.0, 5.0])), np.array([3.0, 4.0, 5.0]))
    centre, turn, shift = np.array([7.0, -8.0, 9.0]), np.array([[40.0, -30.0, 20.0]]), np.array([[5.0, 50.0, -9.0]])
    start = away_from(truth, centre, turn, shift)
    assert pose.offset_about(start, centre, pose.euler_deg_to_rotation(turn), shift)[0] == pytest.approx(truth)


def test_block_mean_keeps_content_and_place() -> None:
    affine = np.diag([0.5, 0.7, 1.1, 1.0])
    volume = Volume(np.random.default_rng(1).random((6, 8, 10)).astype(np.float32), affine)
    coarse = block_mean(volume, (2, 2, 5))
    assert coarse.voxels.sum() * coarse.voxel_volume_mm3 == pytest.approx(
        volume.voxels.sum() * volume.voxel_volume_mm3, rel=1e-5
    )
    assert coarse.centre_mm == pytest.approx(volume.centre_mm)


def test_basin_of_a_profile() -> None:
    x = np.linspace(-40, 40, 9)
    assert basin_width(x, np.abs(x)) == 40
    assert basin_width(x, np.where(x > 20, 0, np.abs(x))) == 20
    assert basin_width(x, -np.abs(x)) == 0


def test_names_on_the_command_line_are_the_experiments() -> None:
    assert [name.value for name in Name] == list(EXPERIMENTS)


@pytest.mark.parametrize(("name", "times"), [("landscape", 1), ("optimisers", 2), ("pose-statistics", 2)])
def test_experiment_writes_its_files_and_goes_on(name: str, times: int, tmp_path: Path) -> None:
    """Landscapes once, as their drawings take ten seconds: how it goes on is the same for all."""
    arguments = ["experiment", name, "--out", str(tmp_path / "out"), "--small", "--seed", "40", "--n", "2", "--quiet"]
    for _ in range(times):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    values = json.loads((out / "summary.json").read_text())
    assert values["n"] == 2
    assert values["comparison"]
    records = (out / "records.jsonl").read_text().splitlines()
    assert len(records) == len(set(records)), "nothing was done twice"
    page = (out / "report.html").read_text()
    assert "data:image/png" in page
    assert "http" not in page.split("<style>")[0]
    assert list(out.glob("*.svg"))
    assert len((out / "results.csv").read_text().splitlines()) > 1


def test_a_refused_registration_counts_as_failed_and_its_error_in_no_mean() -> None:
    measures = ("mpe_mm", "mpe_px", "mtre_mm", "mrpd_mm", "double_geodesic_mm")
    done = [
        ({"subject": {"phantom": n}, "way": "auto"}, {"before": dict.fromkeys(measures, 60.0), "auto": after})
        for n, after in enumerate((dict.fromkeys(measures, 1.0), dict.fromkeys(measures, REFUSED)))
    ]
    figures = pipeline_summary(Study(0), done).figures["auto"]
    assert (figures["n"], figures["below_5_mm"], figures["refused"]) == (2, 1, 1)
    assert figures["after_mm"] == figures["mean_mm_of_successes"] == 1.0


def test_wrong_rows_of_a_table_are_told_by_line_and_the_rest_runs(patient_folder: Path, tmp_path: Path) -> None:
    """A patient as files; below it one whose DSA is missing, one without reference, and one with a word for a number."""
    lines = [
        "name,cta,dsa,reference,sid",
        *(
            f"{name},{{0}}/cta.nii.gz,{{0}}/{dsa},{truth},{sid}"
            for name, dsa, truth, sid in (
                ("good", "dsa.dcm", "{0}/truth.tfm", ""),
                ("absent", "absent.dcm", "{0}/truth.tfm", ""),
                ("untold", "dsa.dcm", "", ""),
                ("typo", "dsa.dcm", "{0}/truth.tfm", "far"),
            )
        ),
    ]
    table, out = tmp_path / "cases.csv", tmp_path / "out"
    table.write_text("\n".join(lines).format(patient_folder) + "\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["experiment", "pose-statistics", "--cases", str(table), "--out", str(out)])
    assert result.exit_code == 2, result.output
    told = [" ".join(part.split()) for part in result.output.split("Left out: ")[1:]]
    assert len(told) == 3
    for line, word in ((3, "absent.dcm"), (4, "reference"), (5, "sid")):
        assert sum(part.startswith(f"Row {line},") and word in part for part in told) == 1, told
    values = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert len(values["problems"]) == 3
    with (out / "results.csv").open(encoding="utf-8") as file:
        assert [row["patient"] for row in csv.DictReader(file)] == ["good"]

    table.write_text("\n".join([lines[0], lines[2]]).format(patient_folder) + "\n", encoding="utf-8")
    result = CliRunner().invoke(
        app, ["experiment", "pose-statistics", "--cases", str(table), "--out", str(tmp_path / "none")]
    )
    assert result.exit_code == 2, "no row is left"
    assert "Row 2," in result.output
