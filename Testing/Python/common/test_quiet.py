"""What libraries print, warn and log while they read is heard, not shown."""

from __future__ import annotations

import logging
import os
import threading
import warnings

import pytest

from DeepIterRegLib.common.quiet import listening, quoting_nothing


def test_what_is_printed_below_python_is_heard(capfd: pytest.CaptureFixture[str]) -> None:
    with listening() as heard:
        os.write(2, b"Corrupt JPEG data: premature end of /data/Doe\n")
        warnings.warn("Invalid value for VR UI: 'Doe'", stacklevel=1)
        logging.getLogger("pydicom").error("Doe")
    assert heard.damage
    with listening() as inner:
        os.write(2, b"Doe is fine\n")
    assert not inner.damage
    os.write(2, b"afterwards\n")
    assert capfd.readouterr() == ("", "afterwards\n")


def test_an_error_ends_the_listening_and_threads_share_it(capfd: pytest.CaptureFixture[str]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with listening():
            begun.set()
            go_on.wait(10)
            os.write(2, b"Doe\n")

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait(10)
    with pytest.raises(ValueError, match="first"), listening():  # noqa: PT012
        os.write(2, b"Jane\n")
        raise ValueError("first")
    go_on.set()
    thread.join()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr() == ("", "afterwards\n")


def test_everything_is_shown_to_who_looks_for_faults(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPITERREG_DEBUG", "1")
    with listening():
        os.write(2, b"Corrupt JPEG data\n")
    assert capfd.readouterr().err == "Corrupt JPEG data\n"


def test_silence_lasts_until_the_last_thread_leaves_it_and_then_all_is_as_before() -> None:
    before = (list(warnings.filters), logging.root.manager.disable, logging.lastResort)
    first, second = quoting_nothing(), quoting_nothing()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # the one that came first goes first, as threads may
    assert logging.root.manager.disable >= logging.WARNING
    assert logging.lastResort is None
    assert warnings.filters[0][0] == "ignore"
    second.__exit__(None, None, None)
    assert (list(warnings.filters), logging.root.manager.disable, logging.lastResort) == before
