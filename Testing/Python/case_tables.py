"""Tables of cases as people write them, and the summary that comes of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from DeepIterRegLib.cases.table import SUMMARY


def write_table(path: Path, *rows: dict[str, Any], columns: tuple[str, ...] = ()) -> Path:
    """Rows with these columns, or with all that any of them has."""
    names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def summary(out: Path) -> list[dict[str, str]]:
    with (out / SUMMARY).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
