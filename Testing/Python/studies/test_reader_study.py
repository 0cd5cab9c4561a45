"""A reader study from its making to its analysis: blinding, resuming, mistakes, and the page in a browser."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import re
import shutil
import stat
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from programs import BROWSER, probed
from typer.testing import CliRunner

from DeepIterRegLib.cli import EXIT_INPUT, app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.registration.result import InitRecord, Registration
from DeepIterRegLib.results.report import write_registration
from DeepIterRegLib.studies.reader_study.cases import PatientCase
from DeepIterRegLib.studies.reader_study.make import draw
from DeepIterRegLib.studies.reader_study.ranks import SCALE
from DeepIterRegLib.studies.reader_study.reading import Reading

METHODS = ("zorblatt", "quuxify", "plughman")  # words that turn up nowhere else
PATIENTS = ("XYZZYPATIENT1", "XYZZYPATIENT2")


@pytest.fixture(scope="module")
def table(patient_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of three methods for two patients: the truth, and two other poses; the second without its DSA's file."""
    work = tmp_path_factory.mktemp("cases")
    angiogram, vessels = read_angiogram(patient_folder / "dsa.dcm"), load_volume(patient_folder / "arteries.nii.gz")
    truth = read_pose(patient_folder / "truth.tfm")
    shutil.copy(patient_folder / "dsa.dcm", work / "dsa.dcm")
    rows = []
    for patient in PATIENTS:
        for shift_mm, method in zip((0.0, 4.0, 12.0), METHODS, strict=True):
            moved = pose.translation(np.array([shift_mm, 0.0, shift_mm])) @ truth
            init = InitRecord("file", True, 0.5, 0.1)
            found = Registration(moved, angiogram.carm, vessels.centre_mm, 0.5, init, (), {}, (), {}, {})
            folder = work / patient / method
            folder.mkdir(parents=True)
            write_registration(folder, found, angiogram, vessels)
            rows.append(f"{patient},{method},{patient}/{method},{'dsa.dcm' if patient == PATIENTS[0] else ''}\n")
    (work / "table.csv").write_text("patient,method,folder,dsa\n" + "".join(rows), encoding="utf-8")
    return work / "table.csv"


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["study", *map(str, arguments)])
    assert result.exit_code == EXIT_INPUT, result.output
    return result.output


@pytest.fixture(scope="module")
def made(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "study"
    text = run("make", "--cases", table, "--out", folder, "--readers", "2", "--seed", "5")
    assert "reader2: 6 comparisons" in text
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A study of one's own, not answered yet."""
    shutil.copytree(made, tmp_path / "study")
    return tmp_path / "study"


def key_of(study: Path) -> dict[tuple[str, str], dict[str, str]]:
    rows = csv.DictReader((study / "author" / "key.csv").open(encoding="utf-8"))
    return {(row["reader"], row["comparison"]): row for row in rows}


# -- drawing ---------------------------------------------------------------------------------------


def test_every_pair_once_and_sides_by_chance() -> None:
    cases = [PatientCase(f"p{n}", dict.fromkeys("abc", Path()), None) for n in range(200)]
    drawn = draw(cases, 1, 1)
    pairs = Counter((d.case, *sorted((d.left, d.right))) for d in drawn)
    assert len(pairs) == 600
    assert set(pairs.values()) == {1}
    assert len({d.comparison for d in drawn}) == 600
    left = Counter(d.left for d in drawn)
    assert all(abs(count - 200) < 4 * np.sqrt(400 / 4) for count in left.values())  # of 400 each, by a coin
    same_side_again = sum(a.left < a.right for a in drawn[::2]) / 300
    assert abs(same_side_again - 0.5) < 4 * 0.5 / np.sqrt(300)
    order = [d.case for d in drawn]
    assert abs(np.corrcoef(order, range(600))[0, 1]) < 4 / np.sqrt(600)
    assert draw(cases, 1, 1) == drawn
    assert [d.left for d in draw(cases, 1, 2)] != [d.left for d in drawn]
    assert [d.left for d in draw(cases, 2, 1)] != [d.left for d in drawn]


# -- blinding --------------------------------------------------------------------------------------


def test_nothing_a_reader_gets_names_method_or_patient(made: Path) -> None:
    for reader in ("reader1", "reader2"):
        files = [path for path in (made / reader).rglob("*") if path.is_file()]
        assert {"read.html", "study.json"} <= {path.name for path in files}
        for path in files:
            data = path.read_bytes()
            data = (
                (gzip.decompress(data) if path.suffix == ".gz" else b"") + data + str(path.relative_to(made)).encode()
            )
            for secret in (*METHODS, *PATIENTS, "author"):
                assert secret.lower().encode() not in data.lower(), (path.name, secret)
    text = (made / "author" / "key.csv").read_text(encoding="utf-8")
    assert all(method in text for method in METHODS)  # so the search above would have found them
    assert json.loads((made / "author" / "study.json").read_text(encoding="utf-8"))["seed"] == 5


def test_the_key_says_what_is_shown(made: Path, table: Path) -> None:
    """Each image is that method's projection of that patient, on the side the key says."""
    angiogram = read_angiogram(table.parent / "dsa.dcm")
    for (reader, comparison), row in key_of(made).items():
        if reader != "reader1":
            continue
        (shown,) = [c for c in Reading(made / reader).comparisons if c.id == comparison]
        for side, path in (("left", shown.left), ("right", shown.right)):
            result = table.parent / row["patient"] / row[side]
            if shown.dsa is None:
                continue
            one, other = load_volume(path), load_volume(result / "projection.nii.gz")
            assert np.array_equal(one.voxels, other.voxels)
            assert one.affine == pytest.approx(other.affine)
            run = load_volume(shown.dsa)
            assert run.voxels.shape == (1 + min(12, len(angiogram.frames)), *one.voxels.shape[1:])
            assert run.affine == pytest.approx(one.affine)
            assert np.corrcoef(run.voxels[0].ravel(), angiogram.minip().ravel())[0, 1] > 0.9
    shown = Reading(made / "reader1").comparisons
    assert Counter(c.dsa is None for c in shown) == {True: 3, False: 3}


def test_same_seed_same_study(table: Path, made: Path, tmp_path: Path) -> None:
    run("make", "--cases", table, "--out", tmp_path / "again", "--readers", "2", "--seed", "5", "--quiet")
    for path in ("author/key.csv", "reader1/study.json", "reader2/read.html"):
        assert (tmp_path / "again" / path).read_bytes() == (made / path).read_bytes()
    assert "exists" in refused("make", "--cases", table, "--out", tmp_path / "again")  # answers may lie in it


def test_folders_instead_of_a_table(table: Path, made: Path, tmp_path: Path) -> None:
    run("make", "--cases", table.parent, "--out", tmp_path / "study", "--seed", "5")
    wanted = {(r["patient"], r["left"], r["right"]) for (reader, _), r in key_of(made).items() if reader == "reader1"}
    found = {(r["patient"], r["left"], r["right"]) for r in key_of(tmp_path / "study").values()}
    assert {(p, *sorted((a, b))) for p, a, b in wanted} == {(p, *sorted((a, b))) for p, a, b in found}


def test_wrong_cases_are_told_together(table: Path, tmp_path: Path) -> None:
    good = table.read_text(encoding="utf-8").splitlines()
    result = table.parent / PATIENTS[0]
    rows = [
        good[0],
        f"a,m,{result / METHODS[0]},",
        f"a,m,{result / METHODS[1]},",
        "b,n,nowhere,",
        f"c,=,{result / METHODS[0]},none.dcm",
        ",o,x,",
    ]
    (tmp_path / "bad.csv").write_text("\n".join(rows), encoding="utf-8")
    text = refused("make", "--cases", tmp_path / "bad.csv", "--out", tmp_path / "study")
    for line, word in (
        (3, "stands there already"),
        (4, "registration.json"),
        (5, '"="'),
        (5, "none.dcm"),
        (6, "empty"),
    ):
        assert re.search(rf"line {line}: .*{re.escape(word)}", text), (line, word, text)
    assert "Patient a has one method" in text
    assert not (tmp_path / "study").exists()


# -- answering ---------------------------------------------------------------------------------------


def answer_all(folder: Path, key: dict[tuple[str, str], dict[str, str]], best: tuple[str, ...]) -> None:
    """A reader who prefers `best`'s first, then the second, definitely."""
    reading = Reading(folder)
    while not reading.done:
        row = key[reading.reader, reading.current.id]
        reading.answer(1 if best.index(row["left"]) < best.index(row["right"]) else 5)


def test_answers_are_kept_at_once_and_gone_on_with(study: Path) -> None:
    reading = Reading(study / "reader1")
    asked = [c.id for c in reading.comparisons]
    reading.answer(2, 'sharp, "clear"\nhere', 3.4)
    reading.answer(4)
    again = Reading(study / "reader1")
    assert (again.position, again.current.id) == (2, asked[2])
    assert (again.answers[asked[0]].rank, again.answers[asked[0]].comment) == (2, 'sharp, "clear" here')
    again.forward()
    assert again.position == 2  # not past what is open
    again.back()
    again.back()
    again.back()
    assert again.position == 0
    again.answer(5)
    assert again.position == 1
    rows = list(csv.DictReader((study / "reader1" / "ranks.csv").open(encoding="utf-8")))
    assert [(r["comparison"], r["rank"]) for r in rows] == [(asked[0], "2"), (asked[1], "4"), (asked[0], "5")]
    assert Reading(study / "reader1").answers[asked[0]].rank == 5
    assert [p.name for p in (study / "reader1").iterdir() if p.name.startswith(".")] == []
    with pytest.raises(InputError, match="none of 1"):
        again.answer(6)


def test_an_answer_that_cannot_be_written_is_not_given(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = Reading(study / "reader1")
    reading.answer(1)
    before = (study / "reader1" / "ranks.csv").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="space"):
        reading.answer(2)
    assert (reading.position, len(reading.answers)) == (1, 1)
    assert (study / "reader1" / "ranks.csv").read_bytes() == before


def test_answers_of_another_study_are_refused(study: Path) -> None:
    Reading(study / "reader2").answer(1)
    shutil.copy(study / "reader2" / "ranks.csv", study / "reader1" / "ranks.csv")
    with pytest.raises(InputError, match=r"line 2: .* is not of this reader's study"):
        Reading(study / "reader1")
    with pytest.raises(InputError, match="not a reader's folder"):
        Reading(study / "author")


# -- from making to a p value ------------------------------------------------------------------------


def test_the_methods_come_out_as_the_readers_ranked_them(study: Path) -> None:
    key = key_of(study)
    answer_all(study / "reader1", key, METHODS)
    answer_all(study / "reader2", key, METHODS)
    assert "12 answers" in run("unblind", study)
    found = json.loads(run("analyse", study / "ranks.csv", "--json"))
    assert found["preferred"] == {METHODS[0]: 8, METHODS[1]: 4, METHODS[2]: 0, "=": 0}
    pair = found["wilcoxon"][f"{METHODS[0]} vs {METHODS[2]}"]
    assert (pair["n"], pair["mean_score"], pair["rank_biserial"], pair["p_exact"]) == (2, 2, 1, 0.5)
    (agreement,) = found["agreement"]
    assert (agreement["n"], agreement["same_rank"]) == (6, 1)


def test_unblind_says_what_is_missing_and_what_is_wrong(study: Path, tmp_path: Path) -> None:
    assert "No reader" in refused("unblind", study)
    Reading(study / "reader1").answer(3)
    result = CliRunner().invoke(app, ["study", "unblind", str(study)])
    assert result.exit_code == 0
    assert "reader1 has not answered 5" in result.output
    assert "reader2 has not answered 6" in result.output
    assert "exists" in refused("unblind", study)
    (tmp_path / "sent.csv").write_text("reader,comparison,rank\nreader1,0123456789,2\nreader1,,9\n", encoding="utf-8")
    text = refused("unblind", study, tmp_path / "sent.csv", "--overwrite")
    assert re.search(r"line 2: 0123456789 .* not of this study", text)
    assert re.search(r"line 3: comparison is empty", text)
    assert re.search(r'line 3: rank "9"', text)
    assert "key.csv does not exist" in refused("unblind", study / "reader1")


# -- the page in a browser -----------------------------------------------------------------------------

PROBE = """
<script>
(async () => {
  const seen = { shown: [], red: {} };
  const wait = async (id) => { while (document.body.dataset.shown !== id) await new Promise((done) => setTimeout(done, 20)); };
  const key = (name) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const data = JSON.parse(document.getElementById("data").textContent);
  const ids = data.comparisons.map((c) => c.id);
  const set = (id, value) => {
    const input = document.getElementById(id);
    if (input.type === "checkbox") input.checked = value; else input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const look = (side) => {
    const canvas = document.getElementById(side);
    const rgba = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let red = 0, grey = 0;
    for (let i = 0; i < rgba.length; i += 4) { red += rgba[i] - rgba[i + 1]; grey += rgba[i + 1]; }
    return { red: red / rgba.length, grey: grey / rgba.length, size: [canvas.width, canvas.height] };
  };
  await wait(ids[0]);
  key("1");
  await wait(ids[1]);
  key("ArrowLeft");
  await wait(ids[0]);
  document.getElementById("comment").value = 'veins, "both"';
  key("5");
  await wait(ids[1]);
  key("ArrowLeft");
  for (const [i, id] of ids.entries()) {
    await wait(id);
    seen.shown.push({ id, left: look("left"), right: look("right"), tools: !document.getElementById("tools").hidden });
    if (data.comparisons[i].run && !seen.red.start) {
      seen.red.start = look("left").red;
      set("alpha", 20); seen.red.faint = look("left").red; set("alpha", 75);
      set("tint", false); seen.red.untinted = look("left").red; set("tint", true);
      key(" "); seen.red.hidden = look("left").red; seen.grey = look("left").grey; key(" ");
      set("minip", false); set("frame", 0); key(" "); seen.first = look("left").grey; key(" "); set("minip", true);
    }
    if (i > 0) key(String((i % 5) + 1));
    else { document.querySelectorAll("#ranks button")[1].click(); }
  }
  seen.csv = window.readerStudy.csv();
  const edited = seen.csv.replace(ids[2] + ",3", ids[2] + ",4").split("\\n").slice(0, 4).join("\\r\\n");
  window.readerStudy.load(edited);  // a file that was saved earlier
  seen.loaded = window.readerStudy.csv();
  seen.done = !document.getElementById("done").hidden;
  seen.kept = localStorage.getItem(`reader-study-${data.study}`);
  tellTest(btoa(unescape(encodeURIComponent(JSON.stringify(seen)))));
})();
</script>
</body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_reader_without_slicer(study: Path, tmp_path: Path) -> None:
    seen = json.loads(base64.b64decode(probed(study / "reader1" / "read.html", PROBE, tmp_path)))
    comparisons = Reading(study / "reader1").comparisons
    assert [s["id"] for s in seen["shown"]] == [c.id for c in comparisons]
    for s, c in zip(seen["shown"], comparisons, strict=True):
        assert s["tools"] == (c.dsa is not None)
        assert s["left"]["red"] > 0.1
        assert s["left"]["red"] != s["right"]["red"]
    red = seen["red"]
    assert red["hidden"] == red["untinted"] == 0
    assert 0 < red["faint"] < red["start"]
    assert seen["grey"] < seen["first"]  # the MinIP has contrast, the first frame none yet
    assert seen["done"]
    rows = list(csv.DictReader(seen["csv"].splitlines()))
    assert [r["comparison"] for r in rows] == [c.id for c in comparisons]
    # the click on the second button replaced the 5, which had replaced the 1
    assert [int(r["rank"]) for r in rows] == [2, 2, 3, 4, 5, 1]
    assert rows[0]["comment"] == 'veins, "both"'
    assert len(json.loads(seen["kept"])) == len(comparisons)
    assert [int(r["rank"]) for r in csv.DictReader(seen["loaded"].splitlines())] == [2, 2, 4, 4, 5, 1]
    (tmp_path / "ranks_reader1.csv").write_text(seen["csv"], encoding="utf-8")
    run("unblind", study, tmp_path / "ranks_reader1.csv")
    answers = list(csv.DictReader((study / "ranks.csv").open(encoding="utf-8")))
    assert [int(a["rank"]) for a in answers] == [2, 2, 3, 4, 5, 1]
    key = [row for (reader, _), row in key_of(study).items() if reader == "reader1"]
    assert [(a["left"], a["right"]) for a in answers] == [(k["left"], k["right"]) for k in key]


def test_the_scale_is_the_papers(made: Path) -> None:
    page = (made / "reader1" / "read.html").read_text(encoding="utf-8")
    for words in SCALE.values():
        assert words in page
    assert "not a medical device" in page.lower()
    assert not re.findall(r'(?:src|href)="(?!#)', page)  # nothing is fetched


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
def test_the_key_is_for_its_owner_alone(made: Path) -> None:
    assert stat.S_IMODE((made / "author").stat().st_mode) == 0o700
    for name in ("key.csv", "study.json"):
        assert stat.S_IMODE((made / "author" / name).stat().st_mode) == 0o600


def test_formulas_in_comments_are_no_formulas_in_the_file_and_come_back_as_meant(study: Path) -> None:
    comment = "=cmd|' /C calc'!A0; +1 or -1.5"
    reading = Reading(study / "reader1")
    reading.answer(2, comment)
    text = (study / "reader1" / "ranks.csv").read_text(encoding="utf-8")
    assert "'=cmd" in text
    assert not re.search(r'(^|[,;"\t])\s*[=+@]', text, re.MULTILINE)
    again = Reading(study / "reader1")
    assert [answer.comment for answer in again.answers.values()] == [comment]
    assert "'=cmd" not in run("unblind", study, "--out", study / "joined.csv")
