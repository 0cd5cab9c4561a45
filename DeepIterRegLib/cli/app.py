"""The program itself: entry point, signals, errors to one line and an exit code, progress bars."""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperGroup

from DeepIterRegLib import __version__
from DeepIterRegLib.cli.help_pages import import_drawing
from DeepIterRegLib.cli.streams import steady_streams
from DeepIterRegLib.common.atomic_output import DISK_IS_FULL, published
from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError, notes_of
from DeepIterRegLib.common.installation import BrokenPackage, broken_package
from DeepIterRegLib.common.interruptions import deliver
from DeepIterRegLib.common.memory import hold_steady
from DeepIterRegLib.common.messages import word
from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.common.quiet import debugging, own_stderr, quoting_nothing
from DeepIterRegLib.common.shown import fault_words, names_nobody
from DeepIterRegLib.common.thread_limit import MOST_THREADS, limit_threads
from DeepIterRegLib.registration.steps import Step

NOTICE = "Research use only. Not a medical device."
STOPPED = "Stopped. What is done is kept: the same command goes on."
# typer itself ends with 2 on wrong use, and shells give 130 (128 + SIGINT) for a program ended by Ctrl-C.
EXIT_INTERNAL, EXIT_INPUT, EXIT_REGISTRATION, EXIT_CANCELLED = 1, 2, 3, 130

P = ParamSpec("P")

UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class _Group(TyperGroup):
    """Says what is wrong with a command line without quoting it: a path with a space in it is several words."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **named: Any) -> Any:
        with _unquoted([*args]):
            return super().make_context(info_name, args, *more, **named)

    def invoke(self, ctx: Any) -> Any:
        with _unquoted([*getattr(ctx, "_protected_args", ()), *ctx.args]):
            return super().invoke(ctx)


@contextmanager
def _unquoted(typed: list[str]) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        message = str(getattr(error, "message", ""))
        for part in sorted({one for text in typed for one in (text, text.partition("=")[2]) if one}, key=len)[::-1]:
            if not part.startswith("-") and not names_nobody(part):
                message = message.replace(part, "...")
        error.message = message  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="deepiterreg",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    # typer's own tracebacks can print local variables, and those may hold a header's values.
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 a fault of this program, 2 wrong use or input, 3 no registration found, 130 cancelled.",
)


# SIGTERM is what `kill` and cluster queues send, SIGHUP what a terminal sends that is closed. Without a handler they would leave
# the half-written folder behind.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def main() -> None:
    """Entry point of the console script."""
    global _is_program
    _is_program = True
    sys.unraisablehook = _print_unraisable
    if not debugging():
        # Readers quote header values, which may name the patient; compiled ones do so to the terminal.
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        logging.lastResort = None
        own_stderr()
    lost_output = steady_streams()
    for number in SIGNALS:
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it ignored
            signal.signal(number, _on_signal)
    if len(sys.argv) == 1 or {"-h", "--help"} & set(sys.argv):
        import_drawing()
    hold_steady()
    try:
        app()
    except Interrupted:  # before the command began
        _print_line("Error: ", "Cancelled; nothing was written.", typer.colors.RED)
        sys.exit(EXIT_CANCELLED)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
        # The exit code says what became of the files, whatever became of the words.
        if lost := lost_output():
            said = f"Standard output could not be written ({lost.strerror}), so what was printed is not whole."
            _print_line("Warning: ", said, typer.colors.YELLOW)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not KeyboardInterrupt: one that passes through `exec` makes Python exit as if killed, caught or not."""


_interrupted = False
_is_program = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    deliver(_interrupt)


def _interrupt() -> None:
    global _interrupted
    _interrupted = True
    raise Interrupted


def _hear_no_more() -> None:
    """What has ended cannot be stopped any more: a signal now would change the exit code, and nothing else."""
    if _is_program:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _print_unraisable(lost: sys.UnraisableHookArgs) -> None:
    # The flag ends the program anyway. A traceback here would read like a fault, and may quote a file.
    if not isinstance(lost.exc_value, Interrupted) and debugging():
        sys.__unraisablehook__(lost)


def _raise_if_interrupted() -> None:
    """An exception raised inside a callback from C (numba's compiler, a finaliser) is lost; the flag is not."""
    if _interrupted:
        raise Interrupted


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn exceptions into one line per problem on stderr and an exit code."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        before = published()
        try:
            _refuse_lost_folder()
            with quoting_nothing():
                function(*args, **kwargs)
            _hear_no_more()
        # `typer.Exit` is a RuntimeError: the last clause would report a wanted end as a fault.
        except typer.Exit:
            _hear_no_more()
            raise
        except InputError as error:
            fail(EXIT_INPUT, *error.problems, notes=notes_of(error))
        except RegistrationError as error:
            fail(EXIT_REGISTRATION, *error.args, notes=notes_of(error))
        except (Interrupted, KeyboardInterrupt, Cancelled):
            _end_cancelled(published() > before)
        except MemoryError:
            fail(EXIT_INTERNAL, "Not enough memory for this volume; resample it or close other programs.")
        except Exception as error:
            # An interruption lost in a callback may come back as any fault of the code that it left half done.
            if _interrupted:
                _end_cancelled(published() > before)
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                fail(EXIT_INPUT, "A name is too long for this system: no file has it. Give a shorter one.")
            if debugging():
                raise
            if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
                fail(
                    EXIT_INPUT, f"{os.strerror(error.errno)}: free some space, also in the folder for temporary files."
                )
            if broken := broken_package(error):
                fail(EXIT_INPUT, f"{broken.sentence} Mend it with: {_mending(broken)}")
            # Its own text is left out: it may quote a header or a path.
            fail(
                EXIT_INTERNAL,
                f"Unexpected {fault_words(error)}, a fault of deepiterreg; DEEPITERREG_DEBUG=1 shows more, perhaps of the patient too.",
            )

    return run


def _refuse_lost_folder() -> None:
    """Paths are relative to the current folder, and nothing can be written from one that is gone."""
    try:
        Path.cwd()
    except OSError:
        raise InputError("The current folder does not exist any more; go to one that does, and start again.") from None


def _end_cancelled(written: bool) -> None:
    """The exit code says what became of the files: an interruption that came after they had their names changed nothing."""
    if not written:
        fail(EXIT_CANCELLED, "Cancelled; nothing was written.")
    _hear_no_more()
    _print_line("Note: ", "Interrupted after everything was written.", typer.colors.YELLOW)


def _mending(broken: BrokenPackage) -> str:
    """The one command that puts a package right, for the Python that runs."""
    from importlib.metadata import packages_distributions

    if broken.absent and broken.extra:
        name = f"'deepiterreg[{broken.extra}]'"
    else:
        name = packages_distributions().get(broken.name, [broken.name])[0]
    how = "" if broken.absent else "--upgrade " if broken.other_numpy else "--force-reinstall --no-deps "
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f"{python} -m pip install {how}{name}"


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C or SIGTERM, for work that ends by itself and keeps what is done; the second time they interrupt."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        event.set()
        for caught, handler in before.items():
            signal.signal(caught, handler)

    for caught in SIGNALS:
        if caught == signal.SIGINT or signal.getsignal(caught) is not signal.SIG_IGN:
            before[caught] = signal.signal(caught, on_signal)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fail(code: int, *problems: str, notes: Iterable[str] = ()) -> None:
    """Say each problem on stderr, after what was noted of the inputs, and leave with the exit code."""
    _hear_no_more()
    for note in notes:
        _print_line("Note: ", note, typer.colors.YELLOW)
    for problem in problems:
        _print_line("Error: ", problem, typer.colors.RED)
    raise typer.Exit(code)


def _print_line(head: str, message: str, colour: str) -> None:
    from DeepIterRegLib.cli.options import FACE

    typer.secho(head + " ".join(word(message, FACE).split()), err=True, fg=colour)


STEP_WORDS: dict[Enum, str] = {
    Step.MAKE_PATIENT: "Make patient",
    Step.WRITE_PATIENT: "Write patient",
    Step.LOAD: "Load",
    Step.LOAD_NETWORK: "Load PyTorch",
    Step.READ_POSES: "Read poses",
    Step.READ_DSA: "Read DSA",
    Step.READ_CTA: "Read CTA",
    Step.READ_VOLUME: "Read volume",
    Step.READ_ITEMS: "Read items",
    Step.SEGMENT_CTA: "Segment CTA",
    Step.SEGMENT_VEINS: "Segment veins",
    Step.SEGMENT_DSA: "Segment DSA",
    Step.COMPILE: "Compile, first time",
    Step.CHECK_INPUTS: "Check inputs",
    Step.SKULL: "Skull",
    Step.SKULL_FINER: "Skull, finer grid",
    Step.NETWORK: "Network",
    Step.SEARCH: "Search",
    Step.REFINE_SKULL: "Skull, refined",
    Step.REFINE_NETWORK: "Network, refined",
    Step.REFINE_EARLIER: "Earlier runs, refined",
    Step.REFINE_COARSE: "MinIP, coarse",
    Step.REFINE: "MinIP",
    Step.REFINE_WITH_SKULL: "Vessels and skull",
    Step.MASK_STAGE: "Paper: vessel mask",
    Step.MINIP_STAGE: "Paper: MinIP",
    Step.CORRECT_VIEWS: "Correct views",
    Step.CONFIDENCE: "Confidence",
    Step.EACH_VIEW: "Each view alone",
    Step.FRAMES: "Motion within the run",
    Step.PROJECT: "Project",
    Step.DRAW: "Draw",
    Step.WRITE: "Write",
    Step.WRITE_REPORT: "Write report",
    Step.PREPARE_VIEWS: "Prepare images",
    Step.DRAW_PICTURES: "Draw pictures",
    Step.RUN_EXPERIMENT: "Run experiment",
    Step.MAKE_HEADS: "Make heads",
}


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """A line on stderr for each step: its name and time, and a bar of how much of the whole job was done when it ended."""
    if quiet:
        yield Progress(lambda event: _raise_if_interrupted())
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Lines

    tasks: dict[Enum, TaskID] = {}
    columns = (TextColumn("{task.description:<20}"), BarColumn(bar_width=32), TaskProgressColumn(), TimeElapsedColumn())
    # stdout belongs to --json, so that its output can be piped.
    lines = Lines(*columns, console=Console(stderr=True))

    def show(event: ProgressEvent) -> None:
        _raise_if_interrupted()
        # Begun with the first step: a mistake that is found before it is told without an empty display above.
        lines.start()
        if event.step not in tasks:
            if tasks:
                # Stopped, or the time of a step that is over would go on counting.
                lines.stop_task([*tasks.values()][-1])
            tasks[event.step] = lines.add_task(STEP_WORDS[event.step], total=1.0)
        lines.update(tasks[event.step], completed=event.overall)

    try:
        yield Progress(show)
    finally:
        if tasks:
            lines.stop()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepiterreg {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            help="Threads that it may use, its workers included. Results do not depend on them. Default: one for each core.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Register a CT angiogram (CTA) to a digital subtraction angiogram (DSA) of the same head.

    [bold red]Research use only. Not a medical device.[/]

    [bold]Examples[/]

      deepiterreg demo

      deepiterreg info run.dcm

      deepiterreg register cta.nii.gz run.dcm --out result

      deepiterreg register cta.nii.gz frame.png --out result --primary-angle 90 --secondary-angle 0 --sid 1200 --sod 750 --pixel-spacing 0.3
    """
    if threads is not None:  # before a command imports what starts them
        limit_threads(threads)
