"""Joins the readers' answers with the key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.common.tables import read_table
from DeepIterRegLib.studies.reader_study.make import AUTHOR, KEY, KEY_COLUMNS
from DeepIterRegLib.studies.reader_study.ranks import Ranked
from DeepIterRegLib.studies.reader_study.reading import ANSWERS, Answer, comparison_words, read_answers


@dataclass(frozen=True)
class Unblinded:
    """Answers with their methods, in the key's order, and reader to how many comparisons have none."""

    ranked: list[Ranked]
    unanswered: dict[str, int]


def unblind(study: Path, files: Sequence[Path] = ()) -> Unblinded:
    """Name the methods behind the answers of a study.

    Parameters
    ----------
    study
        The folder that `make.write_study` has written.
    files
        Readers' answers; without, ranks.csv in the readers' folders. A reader's later answer replaces the earlier.

    Raises
    ------
    InputError
        No key, no answers, answers that are not of this study: everything wrong, each problem with file and line.
    """
    rows, problems = read_table(study / AUTHOR / KEY, KEY_COLUMNS)
    key = {(row["reader"], row["comparison"]): row for row in rows}
    readers = dict.fromkeys(row["reader"] for row in rows)
    files = files or [path for reader in readers if (path := study / reader / ANSWERS).is_file()]
    if not files:
        raise InputError(
            f"No reader of {name_of(study)} has answered: put each reader's file as {ANSWERS} into its folder, or name the files."
        )
    answers: dict[tuple[str, str], Answer] = {}
    for file in files:
        found, wrong = read_answers(file)
        problems += [f"{name_of(file.parent)}/{problem}" for problem in wrong]
        for line, answer in found:
            asked = (answer.reader, answer.comparison)
            if asked not in key:
                problems.append(
                    f"{name_of(file.parent)}/{name_of(file)} line {line}: {comparison_words(answer)} is not of this study."
                )
            answers[asked] = answer  # the later one counts
    if problems:
        raise InputError(problems)
    ranked = [
        Ranked(row["reader"], row["patient"], row["left"], row["right"], answers[asked].rank)
        for asked, row in key.items()
        if asked in answers
    ]
    unanswered = {reader: sum(asked[0] == reader and asked not in answers for asked in key) for reader in readers}
    return Unblinded(ranked, unanswered)
