"""A reader's folder: what is to be compared, what has been answered; every answer is on disk at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import MALFORMED, read_json
from DeepIterRegLib.common.shown import name_of, quoted
from DeepIterRegLib.common.tables import read_table, table_text
from DeepIterRegLib.common.user_input import number
from DeepIterRegLib.studies.reader_study.ranks import rank_of

STUDY, ANSWERS = "study.json", "ranks.csv"
COLUMNS = ("reader", "comparison", "rank", "comment", "seconds")
FORMAT = 1


@dataclass(frozen=True)
class Comparison:
    """What is shown: a DSA with projected vessels left and right, or (dsa None) two finished overlays.

    `dsa` is an image whose first slice is the MinIP of the whole run, the others its frames (or some of them), grey 0..255.
    """

    id: str
    dsa: Path | None
    left: Path
    right: Path


@dataclass(frozen=True)
class Answer:
    """A row of a reader's file. `seconds` is how long the comparison was looked at."""

    reader: str
    comparison: str
    rank: int
    comment: str = ""
    seconds: float | None = None


def comparison_words(answer: Answer) -> str:
    """A comparison as a reader's file names it, for messages: its name says nothing, if it is one of ours."""
    token = answer.comparison if re.fullmatch("[0-9a-f]{10}", answer.comparison) else quoted(answer.comparison)
    return f"{token} of {quoted(answer.reader)}"


def read_answers(path: Path) -> tuple[list[tuple[int, Answer]], list[str]]:
    """Answers as they were given, each with its line, and what is wrong with the file; of two to one question the later counts.

    Raises
    ------
    InputError
        No such file or not such a table.
    """
    rows, problems = read_table(path, COLUMNS[:3])
    answers = []
    for row in rows:
        rank = rank_of(row["rank"])
        empty = [name for name in COLUMNS[:2] if not row[name]]
        if empty:
            problems.append(f"{name_of(path)} line {row.line}: {', '.join(empty)} is empty.")
        if rank is None:
            problems.append(f"{name_of(path)} line {row.line}: rank {quoted(row['rank'])} is none of 1, 2, 3, 4, 5.")
        seconds = number(row["seconds"])
        answers.append((row.line, Answer(row["reader"], row["comparison"], rank or 0, row["comment"], seconds)))
    return answers, problems


class Reading:
    """One reader's way through a study; open the folder again to go on where it ended.

    Attributes
    ----------
    reader
    comparisons
        In this reader's order.
    position
        Index of the comparison shown.

    Raises
    ------
    InputError
        Not a reader's folder, or its answers are not of this study.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / ANSWERS
        refusal = (
            f"{name_of(folder)} is not a reader's folder of a study (no readable {STUDY}): choose reader1, reader2, ..."
        )
        study = read_json(folder / STUDY, refusal)
        try:
            self.reader: str = study["reader"]
            self.comparisons = [
                Comparison(c["id"], folder / c["dsa"] if c["dsa"] else None, folder / c["left"], folder / c["right"])
                for c in study["comparisons"]
            ]
            readable = study["format"] == FORMAT
        except MALFORMED:
            raise InputError(refusal) from None
        if not readable or not self.comparisons:
            raise InputError(f"{STUDY} in {name_of(folder)} is of another version: make the study again.")
        self.answers = self._read()
        self.position = self._first_open()

    @property
    def current(self) -> Comparison:
        """The comparison shown."""
        return self.comparisons[self.position]

    @property
    def given(self) -> Answer | None:
        """The answer to the comparison shown, if there is one."""
        return self.answers.get(self.current.id)

    @property
    def done(self) -> bool:
        """Is every comparison answered?"""
        return len(self.answers) == len(self.comparisons)

    def answer(self, rank: int, comment: str = "", seconds: float | None = None) -> None:
        """Write the answer to the comparison shown, and go to the next.

        Raises
        ------
        InputError
            It cannot be written; nothing has changed then.
        """
        if rank_of(str(rank)) is None:
            raise InputError(f"Rank {rank} is none of 1, 2, 3, 4, 5.")
        comment = " ".join(comment.split())
        answer = Answer(self.reader, self.current.id, rank, comment, seconds)
        # What is on disk counts, not what is in memory: the folder may have been answered elsewhere meanwhile.
        before = [a for _, a in read_answers(self._file)[0]] if self._file.exists() else []
        rows = ((a.reader, a.comparison, a.rank, a.comment, a.seconds) for a in (*before, answer))
        with output_file(self._file, (".csv",), overwrite=True) as path:
            path.write_text(table_text(COLUMNS, rows), encoding="utf-8")
        self.answers[answer.comparison] = answer
        self.forward()

    def back(self) -> None:
        """Show the comparison before; its answer may be given again."""
        self.position = max(0, self.position - 1)

    def forward(self) -> None:
        """Show the next comparison, if the one shown is answered."""
        if self.given is not None:
            self.position = min(len(self.comparisons) - 1, self.position + 1)

    def _first_open(self) -> int:
        open_ones = [i for i, c in enumerate(self.comparisons) if c.id not in self.answers]
        return open_ones[0] if open_ones else len(self.comparisons) - 1

    def _read(self) -> dict[str, Answer]:
        if not self._file.exists():
            return {}
        answers, problems = read_answers(self._file)
        known = {c.id for c in self.comparisons}
        problems += [
            f"{ANSWERS} line {line}: {comparison_words(answer)} is not of this reader's study."
            for line, answer in answers
            if answer.comparison not in known or answer.reader != self.reader
        ]
        if problems:
            raise InputError(problems)
        return {answer.comparison: answer for _, answer in answers}
