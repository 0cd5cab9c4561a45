"""The phantom procedure: one head, eight runs, and a truth that explains each of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

import DeepIterRegLib.phantom as phantom
from DeepIterRegLib.cases.demo import PHANTOM_FILES
from DeepIterRegLib.cli import app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.phantom import (
    PhantomSettings,
    Procedure,
    ProcedureRun,
    ProcedureSettings,
    as_read,
    make_procedure,
    write_procedure,
)
from DeepIterRegLib.phantom.anatomy import head_vessels
from DeepIterRegLib.phantom.procedure import PLAN, HeaderError, clots
from DeepIterRegLib.phantom.settings import CtaSettings, RunSettings, ViewSettings

SMALL = ProcedureSettings(
    patient=PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.5, 1.5), slice_spacing_mm=(1.5, 1.5)),
        view=ViewSettings(matrices=(192,), field_mm=((300.0, 300.0), (400.0, 400.0))),
        run=RunSettings(frames_per_s=(1.5, 1.5), duration_s=(5.0, 5.0)),
    )
)
# Runs of a moment: where only the poses count.
TINY = replace(
    SMALL,
    patient=replace(
        SMALL.patient,
        cta=CtaSettings(in_plane_spacing_mm=(3.0, 3.0), slice_spacing_mm=(3.0, 3.0)),
        view=ViewSettings(matrices=(64,), field_mm=((400.0, 400.0),)),
        run=RunSettings(frames_per_s=(1.0, 1.0), duration_s=(4.0, 4.0)),
    ),
)
SEED = 11


@pytest.fixture(scope="module")
def procedure() -> Procedure:
    return make_procedure(SEED, SMALL)


@pytest.fixture(scope="module")
def tiny() -> Procedure:
    return make_procedure(2, TINY)


@pytest.fixture(scope="module")
def folder(procedure: Procedure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("procedure")
    write_procedure(procedure, out)
    return out


def projected(procedure: Procedure, run: ProcedureRun, carm: CArm) -> np.ndarray:
    """Where a C-arm puts the head's vessels, px (N, 2), at the run's true pose."""
    return np.asarray(carm.project(procedure.patient.centrelines.points_mm, run.cta_to_carm))


# -- what is made --------------------------------------------------------------------------------------


def test_same_seed_same_procedure(tiny: Procedure) -> None:
    told: list[float] = []
    again = make_procedure(tiny.patient.seed, TINY, told.append)
    for run, once_more in zip(tiny.runs, again.runs, strict=True):
        np.testing.assert_array_equal(run.run.frames, once_more.run.frames)
        np.testing.assert_array_equal(run.cta_to_carm, once_more.cta_to_carm)
        assert (run.run.carm, run.start_s) == (once_more.run.carm, once_more.start_s)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert tiny.runs[0].run is tiny.patient.run
    np.testing.assert_array_equal(again.patient.cta.voxels, tiny.patient.cta.voxels)


def test_eight_runs_of_a_thrombectomy(procedure: Procedure) -> None:
    assert [run.name for run in procedure.runs] == [f"{n:02d}_{planned.view}" for n, planned in enumerate(PLAN, 1)]
    assert len(procedure.runs) == 8
    injected = [run.run.injection for run in procedure.runs]
    assert set(injected) == {"left_ica", "right_ica"}
    assert injected.count(injected[0]) == 7
    for run in procedure.runs:
        along = np.abs(run.run.carm.beam_axis)
        assert (along[1] > along[0]) == (run.view == "ap")
    for view in ("ap", "lateral"):
        # Each within 3 deg of the procedure's own working view on both angles: two runs are 6 apart at most.
        angles = np.array(
            [(r.run.carm.primary_angle_deg, r.run.carm.secondary_angle_deg) for r in procedure.runs if r.view == view]
        )
        assert (np.ptp(angles, axis=0) <= 6).all()
        assert (np.ptp(angles, axis=0) > 0).all()
    assert len({round(run.run.carm.sod_mm, 6) for run in procedure.runs}) == 1
    assert len({run.run.carm.sid_mm for run in procedure.runs}) == 8


def test_the_occlusion_opens(procedure: Procedure) -> None:
    assert procedure.patient.occlusion == "M1"
    np.testing.assert_array_equal(procedure.runs[0].occluded, procedure.patient.occluded)
    closed = [int(run.occluded.sum()) for run in procedure.runs]
    assert closed == sorted(closed, reverse=True)
    assert len(set(closed)) == 4
    assert closed[-1] == 0
    for before, after in zip(procedure.runs, procedure.runs[1:], strict=False):
        assert not (after.occluded & ~before.occluded).any()
    first = procedure.runs[0]
    same_side = [run for run in procedure.runs if run.run.injection == first.run.injection]
    fills = [int((run.run.filling.strength[first.occluded] == 1).sum()) for run in same_side]
    assert fills[0] == 0
    assert fills == sorted(fills)
    assert fills[-1] == closed[0]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("share", [0.2, 0.8])  # of the M1 before the clot: with the early M2 occluded, and with it open
def test_a_clot_always_finds_a_branch_to_move_on_to(side: Literal["left", "right"], share: float) -> None:
    vessels = head_vessels(np.random.default_rng(1), np.random.default_rng(2))
    m1 = np.flatnonzero(vessels.named(f"{side}_M1"))
    at_m1 = vessels.downstream(int(m1[int(share * len(m1))]))
    for seed in range(10):
        places = clots(vessels, "left_ica" if side == "left" else "right_ica", at_m1, np.random.default_rng(seed))
        for before, after in zip(("M1", "M2", "M3"), ("M2", "M3", "none"), strict=True):
            assert not (places[after] & ~places[before]).any()
            assert places[after].sum() < places[before].sum()


def test_time_passes_by_minutes(procedure: Procedure) -> None:
    starts = np.array([run.start_s for run in procedure.runs])
    assert starts[0] == 0
    work = np.array([planned.after_work for planned in PLAN[1:]])
    minutes = np.diff(starts) / 60
    assert (minutes >= 1).all()
    assert minutes[work].min() > minutes[~work].max()


def test_the_head_moves_a_little_and_is_laid_anew_once(procedure: Procedure, tiny: Procedure) -> None:
    for made in (procedure, tiny):
        centre = made.patient.cta.centre_mm[None]
        anew, still = [], 0
        for number, (before, after) in enumerate(zip(made.runs, made.runs[1:], strict=False), 2):
            apart = after.cta_to_carm @ pose.inverse(before.cta_to_carm)
            turned = float(np.degrees(pose.rotation_angle(apart[:3, :3])))
            ends = [pose.transform(run.cta_to_carm, centre)[0] for run in (before, after)]
            shifted = float(np.linalg.norm(ends[1] - ends[0]))
            assert turned == pytest.approx(after.turned_deg, abs=1e-6)
            assert shifted == pytest.approx(after.shifted_mm, abs=1e-9)
            assert turned <= 4
            if after.repositioned:
                assert shifted == pytest.approx(15, abs=1e-9)
                anew.append(number)
            else:
                assert shifted <= 4
                still += turned < 0.4 and shifted < 0.4
        assert len(anew) == 1
        assert 3 <= anew[0] <= 7
        assert still >= 2
        assert not made.runs[0].repositioned


def test_headers_are_wrong_in_one_way(procedure: Procedure) -> None:
    error = procedure.header_error
    assert 0 < abs(error.scale) <= 0.01
    assert 0 < max(map(abs, error.isocentre_mm)) <= 1
    for run in procedure.runs:
        true, told = run.run.carm, run.header_carm
        assert told.sid_mm / true.sid_mm == pytest.approx(1 + error.scale, rel=1e-12)
        shift_px = np.subtract(told.principal_point_px, true.principal_point_px)
        np.testing.assert_allclose(shift_px * true.pixel_spacing_mm[::-1], error.isocentre_mm, atol=1e-9)
        assert replace(told, sid_mm=true.sid_mm, principal_point_px=true.principal_point_px) == true
        assert projected(procedure, run, told) != pytest.approx(projected(procedure, run, true), abs=0.05)


def test_headers_are_right_where_asked(tiny: Procedure) -> None:
    right = make_procedure(tiny.patient.seed, replace(TINY, header_scale=0.0, header_isocentre_mm=0.0))
    assert right.header_error == HeaderError(0.0, (0.0, 0.0))
    for run, before in zip(right.runs, tiny.runs, strict=True):
        assert run.header_carm == run.run.carm == before.run.carm
        np.testing.assert_array_equal(run.run.frames, before.run.frames)


@pytest.mark.parametrize("number", range(len(PLAN)))
def test_truth_explains_each_run(procedure: Procedure, number: int) -> None:
    run, patient = procedure.runs[number], procedure.patient
    logs = np.log(np.maximum(run.run.frames.astype(np.float64), 1))
    minip = (logs - logs[list(run.run.mask_frames)].mean(axis=0)).min(axis=0)
    nodes = (run.run.filling.strength > 0.5) & ~patient.centrelines.vein & (patient.centrelines.radius_mm > 0.6)
    assert nodes.sum() > 100

    def darkness(carm: CArm, cta_to_carm: np.ndarray) -> float:
        px = np.round(carm.project(patient.centrelines.points_mm[nodes], cta_to_carm)).astype(int)
        px = px[np.all((px >= 3) & (px < [carm.columns - 3, carm.rows - 3]), axis=1)]
        return float(np.median(minip[px[:, 1], px[:, 0]]))

    carm = run.run.carm
    at_truth = darkness(carm, run.cta_to_carm)
    assert at_truth < -0.08
    for axis in (carm.column_axis, carm.row_axis):
        for shift_mm in (-6.0, 6.0):
            moved = pose.translation(shift_mm * np.array(axis)) @ run.cta_to_carm
            assert darkness(carm, moved) > 0.7 * at_truth


def test_settings_that_cannot_work_are_named() -> None:
    assert ProcedureSettings(still_steps=len(PLAN) - 2).still_steps == 6
    with pytest.raises(InputError, match="0 to 6"):
        ProcedureSettings(still_steps=7)


# -- files ---------------------------------------------------------------------------------------------


def test_files_read_back_to_the_same_procedure(procedure: Procedure, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} <= set(PHANTOM_FILES)
    np.testing.assert_array_equal(load_volume(folder / "cta.nii.gz").voxels, procedure.patient.cta.voxels)
    record = json.loads((folder / "procedure.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED
    for run, told in zip(procedure.runs, record["runs"], strict=True):
        angiogram = read_angiogram(folder / told["file"])
        written = projected(procedure, run, run.header_carm)
        assert projected(procedure, run, angiogram.carm) == pytest.approx(written, abs=0.01)
        assert angiogram.carm.sid_mm == pytest.approx(run.header_carm.sid_mm, abs=1e-5)
        np.testing.assert_allclose(angiogram.carm.principal_point_px, run.header_carm.principal_point_px, atol=1e-4)
        np.testing.assert_allclose(read_pose(folder / told["truth"]), run.cta_to_carm, atol=1e-9)
        np.testing.assert_allclose(told["ctaToCarm"], run.cta_to_carm, atol=1e-12)
        np.testing.assert_allclose(told["ctaToCarmAtMask"], run.at_mask, atol=1e-12)
        assert told["secondsSinceFirst"] == run.start_s
        assert (told["occlusion"], told["direction"], told["repositioned"]) == (run.clot, run.view, run.repositioned)
    in_memory = as_read(procedure.runs[1])
    np.testing.assert_array_equal(in_memory.frames, read_angiogram(folder / "runs/02_lateral.dcm").frames)
    assert in_memory.carm == read_angiogram(folder / "runs/02_lateral.dcm").carm


def test_files_are_of_one_patient_and_one_study(procedure: Procedure, folder: Path) -> None:
    heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((folder / "runs").iterdir())]
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "StudyDate", "StudyTime"):
        assert len({str(head[keyword].value) for head in heads}) == 1
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({head[keyword].value for head in heads}) == 8
    assert str(heads[0].PatientID) == "PHANTOM"
    assert [head.SeriesNumber for head in heads] == list(range(1, 9))
    times = [head.AcquisitionTime for head in heads]
    assert times == sorted(set(times))
    seconds = [int(t[:2]) * 3600 + int(t[2:4]) * 60 + float(t[4:]) for t in times]
    assert seconds == [run.start_s for run in procedure.runs]


def test_command_writes_a_procedure(
    procedure: Procedure, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phantom, "make_procedure", lambda seed, on_progress: procedure)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["phantom", "--procedure", "--seed", str(SEED), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Procedure 11: " in done.stdout
    files = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(out) for path in out.rglob("*") if path.is_file()} == files
    for name in ("runs/03_ap.dcm", "truth/03_ap.tfm", "procedure.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    again = CliRunner().invoke(app, ["phantom", "--procedure", "--overwrite", "--out", str(out), "--quiet"])
    assert again.exit_code == 0, again.output


def test_a_procedure_has_its_own_number_of_views(tmp_path: Path) -> None:
    asked = CliRunner().invoke(app, ["phantom", "--procedure", "--views", "2", "--out", str(tmp_path / "out")])
    assert asked.exit_code == 2
    assert "--views" in asked.stderr
    assert "eight runs" in asked.stderr
    assert not (tmp_path / "out").exists()
