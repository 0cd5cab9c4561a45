"""One fraction out of many steps: it follows the expected seconds, never goes back, and ends full."""

from __future__ import annotations

import threading
from enum import Enum

import pytest

from DeepIterRegLib.common.progress import Progress, ProgressEvent


class Work(Enum):
    READ = "read"
    SEARCH = "search"
    REFINE = "refine"
    WRITE = "write"


def listened() -> tuple[Progress, list[ProgressEvent]]:
    events: list[ProgressEvent] = []
    return Progress(events.append), events


def test_the_fraction_is_that_of_the_expected_seconds() -> None:
    progress, events = listened()
    progress.expect({Work.READ: 1.0, Work.SEARCH: 6.0, Work.WRITE: 3.0})
    progress(Work.READ, 0.0)
    progress(Work.READ, 1.0)
    progress(Work.SEARCH, 0.5, 0.3)
    progress(Work.WRITE, 0.0)
    progress(Work.WRITE, 1.0)
    assert [event.overall for event in events] == pytest.approx([0.0, 0.1, 0.4, 0.7, 1.0])
    assert events[2] == ProgressEvent(Work.SEARCH, 0.5, events[2].overall, 0.3)
    assert events[-1].overall == 1.0


def test_steps_left_out_are_over_when_a_later_one_begins() -> None:
    progress, events = listened()
    progress.expect({Work.READ: 2.0, Work.SEARCH: 4.0, Work.REFINE: 4.0})
    progress(Work.READ, 0.5)
    progress(Work.REFINE, 0.0)
    progress(Work.REFINE, 1.0)
    assert [event.overall for event in events] == pytest.approx([0.1, 0.6, 1.0])


@pytest.mark.parametrize("seconds", [0.0, 1.0, 100.0])
def test_what_is_expected_anew_shares_out_the_rest_of_the_bar(seconds: float) -> None:
    progress, events = listened()
    progress.expect({Work.READ: 5.0, Work.SEARCH: 4.0, Work.WRITE: 1.0})
    progress(Work.READ, 1.0)
    progress.expect({Work.SEARCH: seconds, Work.REFINE: 3.0})
    progress(Work.SEARCH, 0.0)
    progress(Work.SEARCH, 1.0)
    progress(Work.REFINE, 1.0)
    progress(Work.WRITE, 1.0)
    searched = 0.5 + 0.5 * seconds / (seconds + 4)
    assert [event.overall for event in events] == pytest.approx([0.5, 0.5, searched, 1 - (1 - searched) / 4, 1.0])


def test_a_step_that_reports_less_than_before_does_not_take_the_bar_back() -> None:
    progress, events = listened()
    progress.expect({Work.SEARCH: 1.0, Work.WRITE: 1.0})
    for done in (0.4, 0.2, 0.4, 0.6, 7.0):
        progress(Work.SEARCH, done)
    assert [event.overall for event in events] == pytest.approx([0.2, 0.2, 0.2, 0.3, 0.5])


def test_a_step_that_nobody_expected_stands_still() -> None:
    progress, events = listened()
    progress(Work.READ, 1.0)
    progress.expect({Work.WRITE: 1.0})
    progress(Work.REFINE, 0.5)
    progress(Work.WRITE, 1.0)
    assert [event.overall for event in events] == [0.0, 0.0, 1.0]


def test_work_that_knows_only_its_own_fraction() -> None:
    progress, events = listened()
    progress.expect({Work.SEARCH: 2.0, Work.WRITE: 2.0})
    told = progress.of(Work.SEARCH)
    told(0.5)
    told(1.0, 0.7)
    assert events == [ProgressEvent(Work.SEARCH, 0.5, 0.25), ProgressEvent(Work.SEARCH, 1.0, 0.5, 0.7)]
    Progress().of(Work.SEARCH)(1.0)  # nobody listens


def test_a_listener_ends_the_work() -> None:
    def stop(event: ProgressEvent) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Progress(stop)(Work.READ, 0.0)


def test_work_of_another_thread_counts_and_is_told_by_this_one() -> None:
    told_by: list[int] = []
    progress = Progress(lambda event: told_by.append(threading.get_ident()) or events.append(event))  # type: ignore[func-returns-value]
    events: list[ProgressEvent] = []
    progress.expect({Work.READ: 2.0, Work.SEARCH: 6.0, Work.REFINE: 2.0})
    beside = progress.beside(Work.SEARCH)
    thread = threading.Thread(target=beside, args=(0.5,))
    thread.start()
    thread.join()
    assert not events
    # A later step may begin while it goes on.
    progress(Work.REFINE, 0.5)
    progress.look_at(Work.SEARCH)
    beside(1.0)  # of this thread, as with one thread alone
    progress(Work.REFINE, 1.0)
    assert [(event.step, event.done) for event in events] == [
        (Work.REFINE, 0.5),
        (Work.SEARCH, 0.5),
        (Work.SEARCH, 1.0),
        (Work.REFINE, 1.0),
    ]
    assert [event.overall for event in events] == pytest.approx([0.6, 0.6, 0.9, 1.0])
    assert set(told_by) == {threading.get_ident()}
