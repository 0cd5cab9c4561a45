"""An analysis as files: tables, JSON, and one self-contained page."""

from __future__ import annotations

import json
from pathlib import Path

from markupsafe import Markup

from DeepIterRegLib.common.tables import table_text
from DeepIterRegLib.results.report.page import page_environment, page_style
from DeepIterRegLib.studies.reader_study.analysis import Analysis
from DeepIterRegLib.studies.reader_study.plots import preference_svg, scores_svg
from DeepIterRegLib.studies.reader_study.ranks import EQUAL, SCALE

ANALYSIS_FILES = ("analysis.html", "analysis.json", "preferred.csv", "wilcoxon.csv", "agreement.csv")
_HERE = Path(__file__).parent
_TEST = ("n", "n_nonzero", "w_plus", "w_minus", "z", "p", "p_exact", "rank_biserial", "r")


def write_analysis(folder: Path, analysis: Analysis) -> None:
    """Write `ANALYSIS_FILES` into an existing folder (see `atomic_output.output_folder`).

    Raises
    ------
    InputError
        matplotlib is not installed.
    """
    text = json.dumps(analysis.to_json_dict(), indent=2, allow_nan=False)
    (folder / "analysis.json").write_text(text + "\n", encoding="utf-8")
    readers = (*analysis.readers,) if len(analysis.readers) > 1 else ()
    preferred = (
        (name, count, *(analysis.preferred_by_reader[reader].get(name, 0) for reader in readers))
        for name, count in analysis.preferred.items()
    )
    (folder / "preferred.csv").write_text(table_text(("method", "preferred", *readers), preferred), encoding="utf-8")
    (folder / "wilcoxon.csv").write_text(_wilcoxon_text(analysis), encoding="utf-8")
    agreement = ((*a.readers, a.n, a.same_rank, a.kappa_linear, a.kappa_quadratic) for a in analysis.agreement)
    header = ("reader", "other", "n", "same_rank", "kappa_linear", "kappa_quadratic")
    (folder / "agreement.csv").write_text(table_text(header, agreement), encoding="utf-8")
    environment = page_environment(_HERE)
    environment.filters["p"] = p_words
    page = environment.get_template("analysis.html").render(
        analysis=analysis,
        equal=EQUAL,
        scale=SCALE,
        style=page_style(),
        preference=Markup(preference_svg(analysis)),
        scores=Markup(scores_svg(analysis)),
    )
    (folder / "analysis.html").write_text(page, encoding="utf-8")


def p_words(p: float) -> str:
    """A p value for people: four places, or that it is smaller."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _wilcoxon_text(analysis: Analysis) -> str:
    """A row for each pair and treatment of zeros, of all readers (reader empty) and of each."""
    sources = [("", analysis.pairs)]
    if len(analysis.readers) > 1:
        sources += list(analysis.by_reader.items())
    rows = []
    for reader, pairs in sources:
        for pair in pairs:
            for zeros, test in (("wilcox", pair.wilcox), ("pratt", pair.pratt)):
                corrected = (pair.p_holm, pair.p_exact_holm) if zeros == "wilcox" else (None, None)
                rows.append((reader, pair.first, pair.second, zeros, *(getattr(test, n) for n in _TEST), *corrected))
    return table_text(("reader", "first", "second", "zeros", *_TEST, "p_holm", "p_exact_holm"), rows)
