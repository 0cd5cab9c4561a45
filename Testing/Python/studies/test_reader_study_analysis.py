"""The analysis of a reader study: the published table, other packages, cases with a known answer, wrong tables."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from paper_a_ranks import TABLE
from scipy import stats
from typer.testing import CliRunner

from DeepIterRegLib.cli import EXIT_INPUT, app
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.studies.reader_study.analysis import analyse
from DeepIterRegLib.studies.reader_study.analysis_files import ANALYSIS_FILES
from DeepIterRegLib.studies.reader_study.ranks import Ranked, ranks_text, read_ranks
from DeepIterRegLib.studies.reader_study.statistics import holm, signed_rank, weighted_kappa


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ranks.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_papers_table_gives_the_papers_results(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "analyse", str(table(tmp_path, TABLE)), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["comparisons"], found["patients"]) == (42, 14)
    assert found["preferred"] == {"three-stage": 13, "two-stage": 9, "reference": 6, "=": 14}
    assert set(found["wilcoxon"]) == {
        "three-stage vs two-stage",
        "three-stage vs reference",
        "two-stage vs reference",
    }
    assert ["exact p" in note for note in found["notes"]] == [True]  # of three-stage vs two-stage, 10 of 14 the same
    pair = found["wilcoxon"]["three-stage vs reference"]
    assert round(pair["p"], 4) == 0.0146
    assert pair["z"] > 0  # the three-stage registrations were the better ones
    assert (pair["first"], pair["second"]) == ("three-stage", "reference")
    assert (pair["n"], pair["n_first_better"], pair["n_equal"], pair["n_second_better"]) == (14, 10, 2, 2)
    # By hand: eight 1s of mean rank 4.5 and four 2s of 10.5; two of the 1s are against.
    assert (pair["w_plus"], pair["w_minus"]) == (69, 9)
    assert pair["rank_biserial"] == pytest.approx(60 / 78)
    assert pair["r"] == pytest.approx(pair["z"] / np.sqrt(12))
    assert pair["p_holm"] == pytest.approx(3 * pair["p"])


def test_sides_do_not_matter(tmp_path: Path) -> None:
    answers = read_ranks(table(tmp_path, TABLE))
    mirrored = [Ranked(a.reader, a.patient, a.right, a.left, 6 - a.rank) for a in answers]
    rng = np.random.default_rng(5)
    some = [mirrored[i] if rng.random() < 0.5 else answers[i] for i in rng.permutation(len(answers))]
    one, other = analyse(answers).to_json_dict(), analyse(some).to_json_dict()
    assert one["preferred"] == other["preferred"]
    for name, pair in one["wilcoxon"].items():
        for key in ("p", "z", "p_exact", "p_holm", "mean_score"):
            assert other["wilcoxon"][name][key] == pytest.approx(pair[key])


def test_exact_p_counts_every_sign() -> None:
    """Against all 2^n signs written out, ties and zeros included, and scipy's exact distribution where there are none."""
    rng = np.random.default_rng(11)
    for _ in range(20):
        d = rng.integers(-2, 3, size=9).astype(float)
        for zeros in ("wilcox", "pratt"):
            kept = d[d != 0] if zeros == "wilcox" else d
            if not np.any(d):
                continue
            ranks = stats.rankdata(np.abs(kept))[kept != 0]
            signs = np.array(list(itertools.product((-1, 1), repeat=len(ranks))))
            observed = abs(float((np.sign(kept[kept != 0]) * ranks).sum()))
            wanted = float((np.abs(signs @ ranks) >= observed - 1e-9).mean())
            assert signed_rank(d, zeros).p_exact == pytest.approx(wanted), (d, zeros)  # type: ignore[arg-type]
    d = np.array([1.5, -0.3, 2.2, 0.9, -1.1, 3.0, 0.4, 2.7])
    assert signed_rank(d, "wilcox").p_exact == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)


def test_no_difference_is_no_evidence() -> None:
    test = signed_rank([0, 0, 0], "wilcox")
    assert (test.p, test.p_exact, test.z, test.rank_biserial, test.n, test.n_nonzero) == (1, 1, 0, 0, 3, 0)
    assert signed_rank([1, 1, 1, 1, 1], "wilcox").p_exact == pytest.approx(2 / 2**5)
    assert signed_rank([1, -1], "pratt").p == pytest.approx(1)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_kappa_on_published_examples() -> None:
    """Unweighted kappa of two categories equals both weighted ones: Cohen's classic 20, 5, 10, 15 gives 0.4."""
    first = [0] * 25 + [1] * 25
    second = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    assert weighted_kappa(first, second, 2, 1) == pytest.approx(0.4)
    assert weighted_kappa(first, second, 2, 2) == pytest.approx(0.4)
    # Quadratic kappa is 2 cov / (var + var + (difference of means)^2) (Fleiss and Cohen 1973: the intraclass correlation).
    rng = np.random.default_rng(3)
    a = rng.integers(0, 5, 200)
    b = np.clip(a + rng.integers(-1, 2, 200), 0, 4)
    icc = 2 * np.cov(a, b, bias=True)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert weighted_kappa(list(a), list(b), 5, 2) == pytest.approx(icc)
    assert weighted_kappa([1, 3], [1, 3], 5, 1) == 1
    assert weighted_kappa([2, 2], [2, 2], 5, 1) is None


def test_several_readers_are_one_observation_a_patient(tmp_path: Path) -> None:
    answers = read_ranks(table(tmp_path, TABLE))
    echo = [Ranked("B", a.patient, a.right, a.left, 6 - a.rank) for a in answers]
    alone, both = analyse(answers), analyse([*answers, *echo])
    assert both.preferred == {name: 2 * count for name, count in alone.preferred.items()}
    assert [(p.name, p.wilcox) for p in both.pairs] == [(p.name, p.wilcox) for p in alone.pairs]  # not n = 28
    (agreement,) = both.agreement
    assert (agreement.n, agreement.same_rank, agreement.kappa_linear, agreement.kappa_quadratic) == (42, 1, 1, 1)
    opposite = [Ranked("C", a.patient, a.left, a.right, 6 - a.rank) for a in answers]
    (against,) = analyse([*answers, *opposite]).agreement
    assert against.kappa_quadratic is not None
    assert against.kappa_quadratic < 0
    assert all(p.wilcox.n_nonzero == 0 for p in analyse([*answers, *opposite]).pairs)


def test_two_runs_of_a_patient_count_twice_and_are_told(tmp_path: Path) -> None:
    text = "reader,patient,left,right,rank\nA,1,x,y,1\nA,1,y,x,5\nA,2,x,y,3\n"
    result = analyse(read_ranks(table(tmp_path, text)))
    assert result.pairs[0].scores == (2, 2, 0)
    assert ["patient 1" in note for note in result.notes] == [True, False]
    assert "only 2 scores" in result.notes[1]


def test_every_wrong_row_is_told_with_its_line(tmp_path: Path) -> None:
    text = "reader,patient,left,right,rank\nA,1,x,y,6\nA,1,x,x,2\n\n,1,x,y,2\nA,2,x,y,1\nA,3,=,y,two\nA,3,x,y,3,7,9\n"
    result = CliRunner().invoke(app, ["study", "analyse", str(table(tmp_path, text))])
    assert result.exit_code == EXIT_INPUT
    assert sorted(map(int, re.findall(r"line (\d+)", result.output))) == [2, 3, 5, 7, 7, 8]
    for bad, word in (
        ("", "lacks the columns reader, patient, left, right, rank"),
        ("reader,patient,left,right\nA,1,x,y\n", "lacks the column rank"),
        ("reader,patient,left,right,rank\n", "no row"),
    ):
        with pytest.raises(InputError, match=word):
            read_ranks(table(tmp_path, bad))
    (tmp_path / "latin.csv").write_bytes("reader,patient,left,right,rank\nJörg,1,x,y,1".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_ranks(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="does not exist"):
        read_ranks(tmp_path / "none.csv")


def test_tables_as_spreadsheets_save_them(tmp_path: Path) -> None:
    answers = read_ranks(table(tmp_path, TABLE))
    table(tmp_path, "\ufeff" + TABLE.replace(",", ";").replace("\n", "\r\n").replace("rank", "Rank"))
    assert read_ranks(tmp_path / "ranks.csv") == answers
    assert read_ranks(table(tmp_path, ranks_text(answers))) == answers


def test_page_and_tables(tmp_path: Path) -> None:
    answers = TABLE + "".join(f"<B>,{row.split(',', 1)[1]}\n" for row in TABLE.splitlines()[1:20])
    arguments = ["study", "analyse", str(table(tmp_path, answers)), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(ANALYSIS_FILES)
    page = (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "&lt;B&gt;" in page
    assert "<B>" not in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)  # nothing is fetched
    rows = list(csv.DictReader((tmp_path / "out" / "wilcoxon.csv").open(encoding="utf-8")))
    one = [r for r in rows if (r["reader"], r["first"], r["second"]) == ("A", "three-stage", "reference")]
    assert [r["zeros"] for r in one] == ["wilcox", "pratt"]
    assert float(one[0]["p"]) == pytest.approx(0.0146, abs=5e-5)
    preferred = list(csv.DictReader((tmp_path / "out" / "preferred.csv").open(encoding="utf-8")))
    assert {r["method"]: r["A"] for r in preferred} == {
        "three-stage": "13",
        "two-stage": "9",
        "reference": "6",
        "=": "14",
    }
    (agreement,) = csv.DictReader((tmp_path / "out" / "agreement.csv").open(encoding="utf-8"))
    assert (agreement["n"], float(agreement["kappa_linear"])) == ("19", 1)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == EXIT_INPUT
    assert "--overwrite" in again.output


def test_a_method_named_as_a_formula_is_drawn_letter_by_letter(tmp_path: Path) -> None:
    answers = TABLE.replace("three-stage", "$\\x{$").replace("two-stage", "a$b")
    result = CliRunner().invoke(
        app, ["study", "analyse", str(table(tmp_path, answers)), "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert ">$\\x{$<" in (tmp_path / "out" / "analysis.html").read_text(encoding="utf-8")
