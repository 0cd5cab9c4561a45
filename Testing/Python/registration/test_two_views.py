"""Two views of one head on files: both are written, both are said, and together they know the depth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import BROWSER, probed, run
from typer.testing import CliRunner

from DeepIterRegLib.cases.table import read_cases
from DeepIterRegLib.cli import app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.phantom import Patient, second_run, write_patient
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report import registration_files
from DeepIterRegLib.results.report.images import vessel_projection
from DeepIterRegLib.results.report.outputs import files_of_frames


@dataclass(frozen=True)
class Registered:
    patient: Path
    folder: Path
    registration: Registration


@pytest.fixture(scope="module")
def registered(small_patient: Patient, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """AP and lateral run of a small patient, registered together from somewhere near."""
    folder, patient = tmp_path_factory.mktemp("views"), small_patient
    write_patient(patient, folder / "patient", second_run(patient))
    off = pose.offset_about(
        patient.cta_to_carm,
        patient.cta.centre_mm,
        pose.euler_deg_to_rotation(np.array([3.0, -3, 2])),
        np.array([5.0, 9, -4]),
    )
    (folder / "start.json").write_text(json.dumps({"ctaToCarm": off.tolist()}))
    files = [folder / "patient" / name for name in ("cta.nii.gz", "dsa.dcm", "dsa2.dcm")]
    options = ["--reference", folder / "patient/truth.tfm", "--init", folder / "start.json", "--json", "--quiet"]
    text = run("register", *files, "--out", folder / "out", *options)
    return Registered(folder / "patient", folder / "out", Registration.from_json_dict(json.loads(text)))


def test_files_of_both_views_are_written(registered: Registered) -> None:
    found = registered.registration
    moved = [n for n, view in enumerate(found.views) if view.frames and view.frames.is_seen]
    frames = [files_of_frames(2)[n] for n in moved]
    assert sorted(p.name for p in registered.folder.iterdir()) == sorted((*registration_files(2), *frames))
    assert [view.name for view in found.views] in (["DSA 1 (AP)", "DSA 2 (lateral)"], ["DSA 1 (lateral)", "DSA 2 (AP)"])
    for view, name in zip(found.views, ("overlay.png", "overlay2.png"), strict=True):
        assert Image.open(registered.folder / name).size == (view.carm.columns, view.carm.rows)
    again = Registration.from_json_dict(json.loads(json.dumps(found.to_json_dict())))
    assert again.views == found.views
    assert {"cta", "dsa", "dsa2"} == set(found.input_hashes)


def test_both_views_fit_and_the_depth_is_known(registered: Registered) -> None:
    found = registered.registration
    truth = read_pose(registered.patient / "truth.tfm")
    assert all(view.mpe_mm_to_reference is not None and view.mpe_mm_to_reference < 3 for view in found.views)
    centre = found.centre_cta_mm[None]
    off = pose.transform(found.cta_to_carm, centre)[0] - pose.transform(truth, centre)[0]
    assert all(abs(off @ view.carm.axes[2]) < 2 for view in found.views)  # head motion within the runs is up to 1 mm
    for view in found.views:
        assert view.axis_error_mm is not None
        assert max(view.axis_error_mm) < 2
    assert not any("second view" in warning for warning in found.warnings)


def test_corrections_are_said(registered: Registered, tmp_path: Path) -> None:
    files = [registered.patient / name for name in ("cta.nii.gz", "dsa.dcm", "dsa2.dcm")]
    start = registered.folder / "ctaToCarm.tfm"
    vessels = registered.patient / "arteries.nii.gz"  # need not be found again
    options = ["--init", start, "--cta-mask", vessels, "--refine-geometry", "on", "--json"]
    text = run("register", *files, "--out", tmp_path / "out", *options)
    found = Registration.from_json_dict(json.loads(text[text.index("{") :]))
    _, second = found.views
    for view in found.views:  # which of the headers is off cannot be told
        assert {"head_turn_u_deg", "head_turn_beam_deg", "head_shift_v_mm"} < set(view.changes)
    assert sum("contradict each other and were corrected" in warning for warning in found.warnings) == 1
    assert second.carm.source_mm != registered.registration.views[1].carm.source_mm
    assert "Corrected: Head turn u deg" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    # What is drawn over a run afterwards is drawn by its C-arm as it was corrected.
    for view, dsa in zip(found.views, files[1:], strict=True):
        place = ["--pose", tmp_path / "out/registration.json", "--like", dsa, "--out", tmp_path / "drawn.nii.gz"]
        run("project", vessels, *place, "--overwrite", "--quiet")
        drawn = load_volume(tmp_path / "drawn.nii.gz").voxels[0]
        mask = load_volume(vessels)
        expected = vessel_projection(mask.with_voxels(mask.voxels != 0), view.carm, found.cta_to_carm)
        assert np.allclose(drawn, expected, atol=1e-3 * expected.max())


def test_a_head_that_moved_moves_no_header(registered: Registered, tmp_path: Path) -> None:
    files = [registered.patient / name for name in ("cta.nii.gz", "dsa.dcm", "dsa2.dcm")]
    vessels = registered.patient / "arteries.nii.gz"  # need not be found again
    options = ["--init", registered.folder / "ctaToCarm.tfm", "--cta-mask", vessels, "--refine-geometry", "off"]
    text = run("register", *files, "--out", tmp_path / "out", *options, "--between-runs", "--json", "--quiet")
    first, second = Registration.from_json_dict(json.loads(text)).views
    assert first.changes == {}
    assert first.carm == registered.registration.views[0].carm
    assert set(second.changes) >= {"head_turn_u_deg", "head_shift_beam_mm"}
    assert max(abs(value) for value in second.changes.values()) < 5


def test_options_for_several_dsas_are_counted(registered: Registered, tmp_path: Path) -> None:
    files = [str(registered.patient / name) for name in ("cta.nii.gz", "dsa.dcm", "dsa2.dcm")]
    options = ["--primary-angle", "1", "--sid", "1000", "--sid", "1000", "--sid", "1000"]
    result = CliRunner().invoke(app, ["register", *files, "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert "--primary-angle: It is given 1 time for 2 DSAs. Give it once for each" in text
    assert "--sid: It is given 3 times for 2 DSAs. Give it once for all or once for each" in text


def test_what_one_of_the_files_lacks_is_told_with_its_number(registered: Registered, tmp_path: Path) -> None:
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "frame.png")
    files = [registered.patient / "cta.nii.gz", registered.patient / "dsa.dcm", tmp_path / "frame.png"]
    result = CliRunner().invoke(app, ["register", *map(str, files), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    problems = [line for line in " ".join(result.output.split()).split("Error: ") if "--sid" in line]
    assert problems
    assert all(problem.startswith("DSA 2") for problem in problems)


def test_second_view_in_a_table_of_cases(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("name,cta,dsa,dsa2,primary_angle2,mask_frames2\none,a.nii,b.dcm,c.dcm,88,1\ntwo,a.nii,b.dcm,,,\n")
    one, two = read_cases(table)
    (further,) = one.job.further
    assert (further.dsa, further.geometry.primary_angle_deg, further.mask_frames) == (tmp_path / "c.dcm", 88.0, (0,))
    assert one.job.geometry.primary_angle_deg is None
    assert two.job.further == ()
    table.write_text("name,cta,dsa,sid2\none,a.nii,b.dcm,1200\n")
    with pytest.raises(InputError, match="column sid2: It is filled, but column dsa2 is empty"):
        read_cases(table)


PROBE = """
<script>
(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  while (document.body.dataset.ready !== "yes") await wait(20);
  const canvas = document.getElementById("view");
  const look = () => ({ size: [canvas.width, canvas.height], left: document.querySelector(".edge.left").textContent,
    last: document.getElementById("last").value, stamp: document.getElementById("stamp").textContent });
  const seen = [look()];
  for (const value of ["1", "0"]) {
    document.querySelector(`input[name="shown"][value="${value}"]`).click();
    while (document.body.dataset.shown !== value) await wait(20);
    seen.push(look());
  }
  tellTest(JSON.stringify(seen));
})();
</script>
</body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_page_switches_between_views(registered: Registered, tmp_path: Path) -> None:
    first, second, back = json.loads(probed(registered.folder / "report.html", PROBE, tmp_path))
    views = registered.registration.views
    assert [first["size"], second["size"]] == [[view.carm.columns, view.carm.rows] for view in views]
    assert {first["left"], second["left"]} in ({"R", "A"}, {"R", "P"})
    assert second["stamp"].startswith("MinIP")
    assert back == first
