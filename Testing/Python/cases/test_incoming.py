"""A folder that runs arrive in, by a clock of our own: what is taken and when, what is told, what is left alone."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ct_files import head, write_slices
from xa_files import retag, written

from DeepIterRegLib.cases.incoming import (
    Again,
    Arrived,
    Event,
    Gone,
    Incoming,
    IncomingSettings,
    Moved,
    Reach,
    Refused,
)
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.dicom.arrivals import Arrival, Reason, look_at

SALT = "5a17"
SETTINGS = IncomingSettings(settle_s=1, patience_s=20, poll_s=0.5)


class Clock:
    """Seconds that pass only while somebody waits; `at` does things meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self.plan: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)
        while self.plan and self.plan[0][0] <= self.now:
            self.plan.pop(0)[1]()

    def at(self, second: float, action: Callable[[], object]) -> None:
        self.plan = sorted([*self.plan, (second, action)], key=lambda one: one[0])


class Watched:
    """An `Incoming` on a folder, its clock, and when each event came."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.clock = Clock()
        self.incoming = Incoming(folder, SALT, SETTINGS, clock=self.clock, wait=self.clock.wait, **arguments)

    def until(self, second: float) -> list[tuple[float, Event]]:
        events: list[tuple[float, Event]] = []
        while self.clock.now < second:
            events += [(self.clock.now, event) for event in self.incoming.next(second - self.clock.now)]
        return events

    def events(self, seconds: float = 3) -> list[Event]:
        return [event for _, event in self.until(self.clock.now + seconds)]


def run(path: Path, number: int = 1) -> Path:
    """A run of its own, acquired in the minute `number`; its bytes follow from that."""
    tags = {"SOPInstanceUID": f"1.2.3.{number}", "AcquisitionDateTime": f"202405011{number // 60}{number % 60:02d}00"}
    return written(path, retag(**tags, AcquisitionNumber=number), frames=2, masks=(0,))


def arrival(path: Path) -> Arrival:
    found = look_at(path, SALT)
    assert isinstance(found, Arrival)
    return found


def test_a_run_is_told_once_when_it_has_rested(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    path = tmp_path / "a.dcm"
    watched.clock.at(2, lambda: run(path))
    told = watched.until(30)
    assert [event for _, event in told] == [Arrived(arrival(path))]
    assert 3 <= told[0][0] <= 3.6


def test_runs_come_in_the_order_in_which_they_were_acquired(tmp_path: Path) -> None:
    for name, number in (("a.dcm", 30), ("b.dcm", 3), ("z/c.dcm", 12), ("z/y/d.dcm", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        run(tmp_path / name, number)
    told = Watched(tmp_path).events()
    assert [event.arrival.number for event in told if isinstance(event, Arrived)] == [1, 3, 12, 30]


def test_a_file_that_grows_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    """Written in ten pieces over 9 s, with a pause of 15 s in the middle: neither the pause nor a piece is told."""
    watched = Watched(tmp_path / "in")
    source, path = run(tmp_path / "a.dcm"), tmp_path / "in" / "a.dcm"
    content = source.read_bytes()
    for n in range(1, 11):
        watched.clock.at(n + 15 * (n > 5), lambda n=n: path.write_bytes(content[: -(-len(content) * n // 10)]))
    told = watched.until(60)
    assert [event for _, event in told] == [Arrived(arrival(path))]
    assert 26 <= told[0][0] <= 26.6


def test_a_file_that_stays_cut_is_told_once_and_taken_when_it_is_whole(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "in")
    source, path = run(tmp_path / "a.dcm"), tmp_path / "in" / "a.dcm"
    content = source.read_bytes()
    path.write_bytes(content[:-500])
    told = watched.until(300)
    assert len(told) == 1
    assert 20 <= told[0][0] <= 20.6
    event = told[0][1]
    assert isinstance(event, Refused)
    assert event.refusal.reason is Reason.CUT
    assert f"{len(content) - 500:,} of {len(content):,} bytes are there" in event.refusal.words
    path.write_bytes(content[:-200])  # a little more, and again nothing for long: it is told already
    assert watched.events(100) == []
    path.write_bytes(content)
    assert watched.events() == [Arrived(arrival(path))]


def test_a_copy_that_makes_room_first_is_taken_when_it_is_full(tmp_path: Path) -> None:
    """The size never changes, the times do."""
    watched = Watched(tmp_path / "in")
    source, path = run(tmp_path / "a.dcm"), tmp_path / "in" / "a.dcm"
    content = source.read_bytes()

    def fill(part: int) -> None:
        path.write_bytes(content[: len(content) * part // 4].ljust(len(content), b"\0"))
        os.utime(path, ns=(part, part))

    for part in range(5):
        watched.clock.at(part * 0.7, lambda part=part: fill(part))
    assert [event for _, event in watched.until(30)] == [Arrived(arrival(path))]
    assert path.read_bytes() == content


def test_names_of_files_under_way_count_from_when_they_are_renamed(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    names = ["a.dcm.part", "b.tmp", "c.dcm~", ".d.dcm", "~e.dcm", "f.PARTIAL", "g.filepart"]
    for number, name in enumerate(names, 1):
        run(tmp_path / name, number)
    (tmp_path / ".hidden").mkdir()
    run(tmp_path / ".hidden" / "h.dcm", 20)
    assert watched.events(100) == []
    for number, name in enumerate(names, 1):
        (tmp_path / name).rename(tmp_path / f"{number}.dcm")
    assert watched.events() == [Arrived(arrival(tmp_path / f"{number}.dcm")) for number in range(1, len(names) + 1)]


def test_a_run_that_comes_twice(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    first = run(tmp_path / "a.dcm")
    assert watched.events() == [Arrived(arrival(first))]
    same = Path(shutil.copy(first, tmp_path / "b.dcm"))
    other = written(tmp_path / "c.dcm", retag(SOPInstanceUID="1.2.3.1"), frames=3)
    assert watched.events() == [Again(arrival(other), first, False), Again(arrival(same), first, True)]
    assert watched.events(100) == []


def test_both_of_a_pair_that_arrives_together_are_told(tmp_path: Path) -> None:
    first = run(tmp_path / "a.dcm")
    shutil.copy(first, tmp_path / "b.dcm")
    assert Watched(tmp_path).events() == [Arrived(arrival(first)), Again(arrival(tmp_path / "b.dcm"), first, True)]


def test_a_run_is_renamed_goes_and_comes_back(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    path = run(tmp_path / "a.dcm")
    found = arrival(path)
    watched.events()
    (tmp_path / "done").mkdir()
    moved = path.rename(tmp_path / "done" / "a.dcm")
    assert watched.events() == [Moved(arrival(moved), path)]
    content = moved.read_bytes()
    moved.unlink()
    assert watched.events() == [Gone(moved, found.run_id)]
    path.write_bytes(content)
    assert watched.events() == [Moved(found, moved)]
    path.unlink()
    assert watched.events() == [Gone(path, found.run_id)]
    path.write_bytes(content)
    assert watched.events() == [Moved(found, path)]
    assert watched.events(100) == []


def test_of_two_copies_one_goes(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    first, second = run(tmp_path / "a.dcm"), tmp_path / "b.dcm"
    shutil.copy(first, second)
    watched.events()
    first.unlink()
    assert watched.events() == [Moved(arrival(second), first)]
    shutil.copy(second, first)
    watched.events()
    first.unlink()
    assert watched.events() == []


def test_content_changes_under_a_name(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    path = run(tmp_path / "a.dcm", 1)
    before = arrival(path)
    watched.events()
    os.utime(path)  # touched: the same bytes
    assert watched.events() == []
    written(path, retag(SOPInstanceUID="1.2.3.1"), frames=4)
    assert watched.events() == [Again(arrival(path), path, False)]
    run(path, 2)
    assert watched.events() == [Gone(path, before.run_id), Arrived(arrival(path))]
    after = arrival(path)
    path.write_bytes(b"no run any more" * 100)
    told = watched.events(60)
    assert told[0] == Gone(path, after.run_id)
    assert isinstance(told[1], Refused)
    run(path, 2)
    assert watched.events() == [Moved(arrival(path), path)]


def test_what_is_no_run_is_told_once(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    write_slices(tmp_path / "ct", head()[:1])
    (tmp_path / "notes.txt").write_text("Some words that are long enough. " * 10)
    (tmp_path / "empty.dcm").touch()
    told = [(second, event.refusal) for second, event in watched.until(500) if isinstance(event, Refused)]
    assert [(one.reason, one.path.parent.name == "ct") for _, one in told] == [
        (Reason.NOT_RUN, True),
        (Reason.CUT, False),
        (Reason.NOT_DICOM, False),
    ]
    assert [round(second) for second, _ in told] == [1, 20, 20]  # no more bytes could make a run of a slice


def test_a_file_that_goes_before_it_is_whole_leaves_no_word(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    path = tmp_path / "a.dcm"
    path.write_bytes(b"\0" * 1000)
    watched.clock.at(5, path.unlink)
    assert watched.events(100) == []


def test_runs_that_are_known_are_no_news(tmp_path: Path) -> None:
    old, new = run(tmp_path / "a.dcm", 1), run(tmp_path / "b.dcm", 2)
    watched = Watched(tmp_path, known=[arrival(old).run_id])
    assert watched.events() == [Arrived(arrival(new))]
    moved = old.rename(tmp_path / "c.dcm")
    assert watched.events() == [Moved(arrival(moved), old)]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    run(outside / "a.dcm")
    (inside / "file.dcm").symlink_to(outside / "a.dcm")
    (inside / "folder").symlink_to(outside)
    (inside / "round").symlink_to(inside)
    os.mkfifo(inside / "pipe")
    assert Watched(inside).events(100) == []


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = run(tmp_path / "real" / "a.dcm")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Watched(tmp_path / "link").events() == [Arrived(arrival(path))]


def test_while_the_folder_is_out_of_reach_nothing_is_gone(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "in")
    run(tmp_path / "in" / "a.dcm")
    watched.events()
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    assert watched.events(100) == [Reach(False)]
    (tmp_path / "elsewhere").rename(tmp_path / "in")
    assert watched.events(100) == [Reach(True)]


@contextmanager
def opened() -> Iterator[list[tuple[str, str | None, int]]]:
    """Every file that this process opens within: path, mode, flags."""
    found: list[tuple[str, str | None, int]] = []
    listening = [True]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if listening[0] and event == "open":
            found.append((str(arguments[0]), arguments[1], arguments[2]))

    sys.addaudithook(hook)  # it cannot be taken off again
    try:
        yield found
    finally:
        listening[0] = False


def test_nothing_is_opened_for_writing(tmp_path: Path) -> None:
    path = run(tmp_path / "a.dcm", 1)
    shutil.copy(path, tmp_path / "b.dcm")
    (tmp_path / "cut.dcm").write_bytes(path.read_bytes()[:-9])
    before = {one: one.lstat() for one in tmp_path.rglob("*")}
    with opened() as files:
        assert len(Watched(tmp_path).events(30)) == 3
    ours = [flags for name, _, flags in files if name.startswith(str(tmp_path))]
    assert ours
    assert not any(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) for flags in ours)
    after = {one: one.lstat() for one in tmp_path.rglob("*")}
    assert {one: (stat.st_size, stat.st_mtime_ns) for one, stat in after.items()} == {
        one: (stat.st_size, stat.st_mtime_ns) for one, stat in before.items()
    }


def test_no_folder_no_watching(tmp_path: Path) -> None:
    run(tmp_path / "a.dcm")
    with pytest.raises(InputError, match="does not exist"):
        Incoming(tmp_path / "none", SALT)
    with pytest.raises(InputError, match="not a folder"):
        Incoming(tmp_path / "a.dcm", SALT)


@pytest.mark.parametrize("watchfiles", [True, False])
def test_in_real_time_with_and_without_what_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watchfiles: bool
) -> None:
    """A run that comes while somebody waits, and no thread that is left."""
    if watchfiles:
        pytest.importorskip("watchfiles")
    else:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    (tmp_path / "in").mkdir()
    source, path = run(tmp_path / "a.dcm"), tmp_path / "in" / "a.dcm"
    settings = IncomingSettings(settle_s=0.1, poll_s=30 if watchfiles else 0.05)
    before = threading.active_count()
    with Incoming(tmp_path / "in", SALT, settings) as incoming:
        assert incoming.next(0.3) == []
        timer = threading.Timer(0.2, lambda: shutil.copy(source, path))
        timer.start()
        assert incoming.next(25) == [Arrived(arrival(path))]
        timer.join()
    assert threading.active_count() == before
