"""Many items of work; what is done is never lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from DeepIterRegLib.errors import Cancelled, InputError, RegistrationError


def run_items(
    work: Callable[[Any, dict[str, Any]], dict[str, Any]],
    items: Sequence[dict[str, Any]],
    *,
    shared: Any = None,
    record: Path,
    key: str = "",
    workers: int = 1,
    scheduler: str = "",
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[dict[str, Any]]:
    """``work(shared, item)`` of every item, in order; each result goes to `record` (JSON lines) as it comes.

    Items already there with the same key are not done again. An item that cannot be used gives ``{"error": sentence}``.
    """
    if workers != 1 or scheduler:
        raise InputError("Several workers are not there yet: leave --workers and --scheduler out.")
    known: dict[str, Any] = {}
    for line in record.read_text(encoding="utf-8").splitlines() if record.exists() else []:
        try:
            values = json.loads(line)
            if values["key"] == key and "result" in values:
                known[json.dumps(values["item"], sort_keys=True)] = values["result"]
        except (ValueError, KeyError, TypeError):
            continue
    record.parent.mkdir(parents=True, exist_ok=True)
    results = []
    with record.open("a", encoding="utf-8") as file:
        for done, item in enumerate(items):
            if should_stop is not None and should_stop():
                raise Cancelled
            if on_progress is not None:
                on_progress(done, len(items))
            text = json.dumps(item, sort_keys=True)
            if text not in known:
                try:
                    known[text] = work(shared, item)
                    entry = {"key": key, "item": item, "result": known[text]}
                except (InputError, RegistrationError) as error:
                    known[text] = {"error": " ".join(str(error).split())}
                    entry = {"key": key, "item": item, **known[text]}
                file.write(json.dumps(entry) + "\n")
                file.flush()
            results.append(known[text])
    if on_progress is not None:
        on_progress(len(items), len(items))
    return results
