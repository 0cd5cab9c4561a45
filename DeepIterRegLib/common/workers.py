"""Many items of work, in this process, in several here, or on the workers of a Dask scheduler; what is done is never lost."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import threading
import traceback
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
from DeepIterRegLib.common.memory import STEADY, give_back
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.common.quiet import debugging
from DeepIterRegLib.common.shown import fault_words, name_of
from DeepIterRegLib.common.thread_limit import THREAD_VARIABLES, threads_allowed
from DeepIterRegLib.common.work_folder import AFTER_FULL

POLL_S = 0.2
GRACE_S = 10.0  # for work under way to end by itself, which a stopped run asks it to
CONNECT_S = 10.0

Work = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Failed:
    """In place of a result: what the work raised, or that its process died again and again."""

    message: str


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
    should_stop: ShouldStop | None = None,
) -> list[dict[str, Any]]:
    """``work(shared, item)`` of every item, in the order of the items.

    Each result goes to `record` as a JSON line as soon as it is there: interrupted in whatever way, the next call does only
    what is missing. What a work function raises does not stop the others: the item's result is ``{"error": message}``,
    the record keeps it, and the next call tries that item again.

    Parameters
    ----------
    work
        A function of a module (workers import it), or one that cloudpickle can send. May ask `stopping`.
    items
        JSON-able. Equal ones are done once.
    shared
        Given to every call of `work`. It goes to each worker once, not once an item.
    record
        File of JSON lines ``{"key", "item", "result"}`` or ``{"key", "item", "error"}``; made with its folder if needed.
        A line cut short by a power failure is left out.
    key
        Only lines with the same key count: put in it what changes results beside the items.
    workers
        1: in this process. More: as many processes on this machine, which share its cores evenly.
    scheduler
        Address of a Dask scheduler that runs already (``tcp://host:8786``), whose workers have this package installed.
    on_progress
        Called with the numbers of items done and of all.
    should_stop
        Asked often; True ends the work.

    Raises
    ------
    InputError
        Dask is missing, the scheduler does not answer, or the record cannot be written.
    Cancelled
        `should_stop` said so; what is done is in the record.
    """
    tell = on_progress or (lambda done, total: None)
    texts = [_text(item) for item in items]
    known = _read_record(record, key)
    # Items are compared as text: a dict has no hash, and the record holds text anyway.
    pending = [text for text in dict.fromkeys(texts) if text not in known]
    errors: dict[str, str] = {}
    done = sum(text in known for text in texts)
    tell(done, len(items))
    if pending:
        with (
            _appending(record) as file,
            closing(
                work_through(work, [json.loads(text) for text in pending], shared, workers, scheduler, should_stop)
            ) as found,
        ):
            for index, result in found:
                text = pending[index]
                line = _line(key, text, result)
                _append(file, line, record)
                # Read back from its line: results of this run and of the record are then alike (lists for tuples, text
                # for keys).
                values = json.loads(line)
                if "result" in values:
                    known[text] = values["result"]
                else:
                    errors[text] = values["error"]
                done += texts.count(text)
                tell(done, len(items))
    return [known[text] if text in known else {"error": errors[text]} for text in texts]


def work_through(
    work: Work,
    items: Sequence[Any],
    shared: Any = None,
    workers: int = 1,
    scheduler: str = "",
    should_stop: ShouldStop | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Index of the item and its result, or `Failed`, as they come; parameters and errors as `run_items`.

    Nothing is written; with several workers items and results are pickled. Close it (``contextlib.closing``) if it is left
    early: that ends the workers.
    """
    if workers < 1:
        raise InputError(f"{workers} workers cannot work: give at least 1.")
    if scheduler and workers > 1:
        raise InputError("Workers of this machine and those of a scheduler exclude each other: give one of the two.")
    should_stop = should_stop or (lambda: False)
    if not items:  # all is done: no workers, which could not be shared out among nothing
        return
    if scheduler or workers > 1:
        yield from _on_cluster(work, items, shared, workers, scheduler, should_stop)
        return
    before = _STOPPING.set(should_stop)
    try:
        for index, item in enumerate(items):
            if should_stop():
                raise Cancelled
            yield index, _attempt(work, shared, item)
    finally:
        with suppress(ValueError):  # a generator may be closed in another context than it was begun in
            _STOPPING.reset(before)


def stopping() -> bool:
    """For work functions that take long: whether the run they belong to is being stopped; then raise `Cancelled`."""
    return _STOPPING.get()()


# Of each thread: a worker of a scheduler may have items of two runs at the same time.
_STOPPING: ContextVar[ShouldStop] = ContextVar("stopping", default=lambda: False)


def _attempt(work: Work, shared: Any, item: Any) -> Any:
    try:
        return work(shared, item)
    except Cancelled:
        raise
    except (InputError, RegistrationError) as error:
        return Failed(" ".join(str(error).split()))
    except Exception as error:
        if debugging():
            traceback.print_exception(error)
        # Its text is left out, as it may quote a header, and this goes into records and pages.
        return Failed(f"{fault_words(error)}: a fault of deepiterreg; DEEPITERREG_DEBUG=1 shows more.")
    finally:
        give_back()


# -- the record ------------------------------------------------------------------------------------


def _text(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _line(key: str, item_text: str, result: Any) -> str:
    head = {"key": key, "item": json.loads(item_text)}
    if isinstance(result, Failed):
        return json.dumps({**head, "error": result.message})
    try:
        return json.dumps({**head, "result": result})
    except (TypeError, ValueError):
        return json.dumps({**head, "error": "The result cannot be written as JSON."})


def _read_record(path: Path, key: str) -> dict[str, Any]:
    """Text of the item to result, of every item that is done."""
    results: dict[str, Any] = {}
    # A line that was cut short may end in the middle of a letter.
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
            if values["key"] == key and "result" in values:
                results[_text(values["item"])] = values["result"]
        except (ValueError, KeyError, TypeError):
            continue
    return results


@contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = path.read_bytes() if path.exists() else b""
        # Unbuffered: nothing is left over that a later close would try to write once more.
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise InputError(f"Record {name_of(path)} cannot be written: {error.strerror}. Give another folder.") from None
    with file:
        if written and not written.endswith(b"\n"):  # cut short: what follows starts a line of its own
            _append(file, "", path)
        yield file


def _append(file: BinaryIO, line: str, path: Path) -> None:
    """A line to the disk at once: a process that is killed between two items must not take the finished one with it."""
    end = file.seek(0, os.SEEK_END)
    content = (line + "\n").encode()
    try:
        while content:  # a disk that is nearly full takes a part
            content = content[file.write(content) :]
        os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            file.truncate(end)
        raise InputError(f"Record {name_of(path)} cannot be written: {error.strerror}. {AFTER_FULL}") from error


# -- Dask ------------------------------------------------------------------------------------------


def _on_cluster(
    work: Work, items: Sequence[Any], shared: Any, workers: int, scheduler: str, should_stop: ShouldStop
) -> Generator[tuple[int, Any], None, None]:
    try:
        import distributed
        from distributed.protocol.pickle import dumps
        from distributed.scheduler import KilledWorker
    except ModuleNotFoundError as error:
        raise InputError(
            f"Several workers need Dask (the package {error.name} is missing): pip install 'deepiterreg[cluster]', "
            "or work in one process, without workers and scheduler."
        ) from error
    with ExitStack() as opened:
        client = opened.enter_context(_connected(scheduler) if scheduler else _local_cluster(min(workers, len(items))))
        token = uuid.uuid4().hex
        # A plugin and not `scatter`: a worker that is killed and restarted gets it again. This `dumps` falls back on
        # cloudpickle, so that functions of a script can be sent.
        client.register_plugin(_plugin(token, dumps((work, shared)), own=not scheduler), name=token)
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        # Keys of this run alone: a scheduler that lives for days must not answer with the result of an earlier one.
        futures = [client.submit(_task, token, item, key=f"{token}-{n}", pure=False) for n, item in enumerate(items)]

        def end() -> None:
            """Work under way is asked to stop, by the plugin's leaving; what has not begun ends at once."""
            with suppress(Exception):
                client.unregister_worker_plugin(token)
                distributed.wait([future for future in futures if not future.done()], timeout=GRACE_S)
            with suppress(Exception):
                client.cancel(futures)

        opened.callback(end)
        for n, future in enumerate(futures):
            future.add_done_callback(lambda _, n=n: finished.put(n))
        for _ in items:
            index = _next(finished, should_stop, client)
            try:
                result = futures[index].result()
            except KilledWorker:
                result = Failed("Its process died again and again (killed, or out of memory).")
            except Cancelled:
                raise
            except Exception as error:
                if client.status != "running":
                    raise _lost(scheduler) from error
                result = Failed(fault_words(error))
            # The scheduler need not hold what is handed on.
            futures[index].release()
            yield index, result


def _next(finished: queue.SimpleQueue[int], should_stop: ShouldStop, client: Any) -> int:
    while True:
        if should_stop():
            raise Cancelled
        try:
            # Not for ever: a person who asks to stop must be heard while nothing finishes.
            return finished.get(timeout=POLL_S)
        except queue.Empty:
            if client.status not in ("running", "connecting"):
                raise _lost(client.scheduler.address if client.scheduler else "") from None


def _lost(scheduler: str) -> InputError:
    return InputError(f"The Dask scheduler {scheduler} went away. What is done is kept: start again to go on.")


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    import distributed

    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"No Dask scheduler answers at {address}: start one with `dask scheduler`, and give the address that it prints."
        ) from error
    with client:
        yield client


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    """Processes on this machine that only this process can talk to: loopback, with keys made for this run, no web pages."""
    import dask
    import distributed

    share = dict.fromkeys(THREAD_VARIABLES, str(max(1, threads_allowed() // workers)))
    numba = {
        "NUMBA_NUM_THREADS": share.pop("NUMBA_NUM_THREADS")
    }  # numba here refuses another number once it has threads
    quiet = logging.WARNING if debugging() else logging.CRITICAL
    settings = {
        "distributed.nanny.pre-spawn-environ": {**share, **STEADY},
        # Dask looks a hundred times a second at what each thread does, and keeps an hour of it: 1 MB a case.
        "distributed.worker.profile.enabled": False,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.scheduler.worker-saturation": 1.0,  # an item waits for whichever worker is free first
    }
    with _environment(), warnings.catch_warnings(), dask.config.set(settings):
        warnings.simplefilter("ignore")
        with (
            distributed.LocalCluster(
                n_workers=workers,
                # The work has threads of its own, as many as its share of the cores.
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                # On a shared computer anybody can connect to the loopback address. Without the keys of this run nobody
                # can send it work.
                security=True,
                memory_limit=0,  # the work is not Dask's to measure
                dashboard_address=None,
                # Without a page the scheduler still listens for one: here on loopback, and on any free port.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=quiet,
                env=numba,
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            yield client


@contextmanager
def _environment() -> Iterator[None]:
    """Dask sets variables of this process so that its children find them; afterwards all is as before."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class _Run:
    """On a worker: the work and what it shares, unpickled by the first task and not by the worker's own thread."""

    def __init__(self, pickled: bytes) -> None:
        self.stopped = False
        self._pickled: bytes | None = pickled
        self._lock = threading.Lock()

    def opened(self) -> tuple[Work, Any]:
        from distributed.protocol.pickle import loads

        # Unpickling imports torch for seconds, and the thread that answers the scheduler must not wait for it.
        with self._lock:
            if self._pickled is not None:
                self._parts = loads(self._pickled)
                self._pickled = None
            return self._parts


_RUNS: dict[str, _Run] = {}


def _plugin(token: str, pickled: bytes, own: bool) -> Any:
    """What the scheduler hands to each worker once, restarted ones too."""
    import distributed

    class Carrier(distributed.WorkerPlugin):
        def setup(self, worker: Any) -> None:
            _begin(token, pickled, own)

        def teardown(self, worker: Any) -> None:
            _end(token)

    return Carrier()


def _begin(token: str, pickled: bytes, own: bool) -> None:
    if own:  # Ctrl-C reaches all processes of a terminal; the one that the person started decides
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _RUNS[token] = _Run(pickled)


def _end(token: str) -> None:
    run = _RUNS.pop(token, None)
    if run is not None:
        run.stopped = True


def _task(token: str, item: Any) -> Any:
    run = _RUNS.get(token)
    if run is None:
        raise Cancelled
    before = _STOPPING.set(lambda: run.stopped)
    try:
        # Opened inside `_attempt`: work that cannot be imported on a worker is then told as the item's failure.
        return _attempt(lambda _, item: run.opened()[0](run.opened()[1], item), None, item)
    finally:
        _STOPPING.reset(before)
