"""Answers of readers: the scale, and the table of them in which the methods are named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.shown import name_of, quoted
from DeepIterRegLib.common.tables import read_table, table_text

# Paper A, section 4.9: the wording of the five ranks.
SCALE = {
    1: "left definitely better than right",
    2: "left is better than right",
    3: "left is the same as right",
    4: "right is better than left",
    5: "right definitely better than left",
}
EQUAL = "="
COLUMNS = ("reader", "patient", "left", "right", "rank")


@dataclass(frozen=True)
class Ranked:
    """One comparison and its answer: the methods shown left and right, and a rank of `SCALE`."""

    reader: str
    patient: str
    left: str
    right: str
    rank: int

    @property
    def preferred(self) -> str:
        """The method that was preferred, or `EQUAL`."""
        return self.left if self.rank < 3 else self.right if self.rank > 3 else EQUAL

    def score_for(self, method: str) -> int:
        """-2..2: how much better `method`, one of the two, was found than the other."""
        return 3 - self.rank if method == self.left else self.rank - 3


def rank_of(text: str) -> int | None:
    """A rank as a reader or a table gives it, None if it is none of `SCALE`."""
    return int(text) if text in {str(rank) for rank in SCALE} else None


def read_ranks(table: Path) -> list[Ranked]:
    """Read a table with the columns `COLUMNS`; further columns are ignored.

    Raises
    ------
    InputError
        Everything wrong with the table, each problem with its line.
    """
    answers = []
    rows, problems = read_table(table, COLUMNS)
    for row in rows:
        at = f"{name_of(table)} line {row.line}"
        empty = [name for name in COLUMNS if not row[name]]
        if empty:
            problems.append(f"{at}: {', '.join(empty)} is empty.")
        rank = rank_of(row["rank"])
        if row["rank"] and rank is None:
            problems.append(f"{at}: rank {quoted(row['rank'])} is none of 1, 2, 3, 4, 5.")
        if row["left"] and row["left"] == row["right"]:
            problems.append(
                f"{at}: left and right are both {quoted(row['left'])}; a comparison is between two methods."
            )
        if EQUAL in (row["left"], row["right"]):
            problems.append(f'{at}: "{EQUAL}" cannot name a method; it stands for no preference.')
        answers.append(Ranked(row["reader"], row["patient"], row["left"], row["right"], rank or 0))
    if problems:
        raise InputError(problems)
    return answers


def ranks_text(answers: list[Ranked]) -> str:
    """The table that `read_ranks` reads."""
    return table_text(COLUMNS, ((a.reader, a.patient, a.left, a.right, a.rank) for a in answers))
