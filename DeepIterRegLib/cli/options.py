"""Options that commands share. Those of a registration are made from their declarations in `common.options`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Face, Message
from DeepIterRegLib.common.option import Option, options_of, value_of
from DeepIterRegLib.common.options import GROUPS, OPTIONS, GeometryOptions, Run

if TYPE_CHECKING:
    from DeepIterRegLib.cases.files import RegisterJob

FACE = Face(lambda option: "--" + option.replace("_", "-"))

CtaFile = Annotated[Path, typer.Argument(help=OPTIONS["cta"].help, show_default=False)]
DsaFiles = Annotated[list[Path], typer.Argument(metavar="DSA [DSA2]...", help=OPTIONS["dsa"].help, show_default=False)]
ResultFolder = Annotated[Path, typer.Argument(help="What register wrote.", show_default=False)]
ViewNumber = Annotated[int, typer.Option("--view", min=1, help="Of several views of one pose, this one, from 1.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder to make.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output of an earlier run.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine, which share its cores.")]
Scheduler = Annotated[
    str, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler that is there already: tcp://host:8786.")
]
FOR_EACH = {
    "": "",
    "shared": " Once for all DSAs, or once for each.",
    "own": " Once for each DSA.",
}

Command = TypeVar("Command", bound=Callable[..., None])


def takes(*names: str, each: bool = False) -> Callable[[Command], Command]:
    """Give a command the options of a registration with these ids, in place of its `**typed`.

    The command gets what was typed by id, for `values_of`. With `each` it takes several DSAs: an option that may be given for
    each of them is a list.
    """

    def decorate(function: Command) -> Command:
        # `eval_str`, as annotations are text in files with the `__future__` import, and typer needs the types.
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.kind != p.VAR_KEYWORD]
        section = {name: title for title, group in GROUPS.items() for name in options_of(group)}
        added = [_parameter(OPTIONS[name], section[name], each) for name in names]
        parameters = [*own, *added]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            # Python lets no parameter without a default follow one with it, unless they are keywords.
            [p.replace(kind=p.KEYWORD_ONLY) for p in parameters]
        )
        # typer takes the types from here, and all else from the signature.
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


def _parameter(option: Option, section: str, each: bool) -> inspect.Parameter:
    """The command line's parameter of an option."""
    repeated = each and option.each != ""
    about = option.help + (f" Default: {option.unset}." if option.unset else "") + (FOR_EACH[option.each] * repeated)
    more: dict[str, Any] = {}
    if metavar := option.metavar or ("FILE" if "file" in option.kind else option.unit.upper()):
        more["metavar"] = metavar
    if option.kind in ("number", "whole number"):
        # An infinite bound would stand in the help.
        more |= {key: bound for key, bound in (("min", option.low), ("max", option.high)) if abs(bound) < float("inf")}
    kind, default = _type(option), option.default
    if repeated:
        # None and not the default: `_for_each` must see whether anything was typed.
        kind, default = list[kind] | None, None  # type: ignore[valid-type]
    elif option.kind == "choice":
        default = kind(default)
    elif default is None:
        kind = kind | None
    declaration = typer.Option(FACE.name(option.name), help=about, rich_help_panel=section, **more)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declaration]
    )


def _type(option: Option) -> Any:
    """What the parser makes of one typed value; what it cannot parse stays text, for `value_of`."""
    if option.kind == "choice":
        return StrEnum(option.name, {word: word for word in option.choices})
    simple = {"file": Path, "matrix file": Path, "number": float, "whole number": int, "yes or no": bool}
    return simple.get(option.kind, str)


def values_of(group: type, typed: dict[str, Any]) -> dict[str, Any]:
    """By field of a group, what was typed for its options; a field is left out where nothing was.

    Raises
    ------
    InputError
        Everything that cannot be used.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for member in fields(group):
        option = member.metadata.get("option")
        if option is None or (given := typed.get(option.name)) is None:
            continue
        try:
            # Of these kinds the parser has made values, and has checked their range.
            parsed = option.kind in ("number", "whole number", "yes or no")
            # Relative paths are meant from where the person stands, as in any command.
            values[member.name] = given if parsed else value_of(option, str(given), Path())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return values


def job_of(cta: Path, dsas: list[Path], typed: dict[str, Any]) -> RegisterJob:
    """The registration that was typed; files that are frames of one run are one DSA.

    Raises
    ------
    InputError
        Everything that cannot be used.
    """
    from DeepIterRegLib.cases.files import RegisterJob

    if len(dsas) > 1:
        from DeepIterRegLib.images.dicom.run_files import folder_of_frames

        folder = folder_of_frames(dsas)
        dsas = dsas if folder is None else [folder]
    problems: list[str] = []
    runs = []
    for number, (dsa, own) in enumerate(zip(dsas, _for_each(typed, len(dsas), problems), strict=True), 1):
        try:
            runs.append(
                Run(dsa=dsa, geometry=GeometryOptions(**values_of(GeometryOptions, own)), **values_of(Run, own))
            )
        except InputError as error:
            # What was typed once for all DSAs is wrong for each of them, and told once.
            problems += [problem for problem in error.problems if number == 1 or problem not in problems]
    try:
        # Gathered after the runs and not instead of them: all that is wrong is said at once.
        common = values_of(RegisterJob, {name: value for name, value in typed.items() if not OPTIONS[name].each})
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    first, *further = runs
    own = {member.name: getattr(first, member.name) for member in fields(Run)}
    return RegisterJob(cta=cta, **own, **common, further=tuple(further))


def _for_each(typed: dict[str, Any], count: int, problems: list[str]) -> list[dict[str, Any]]:
    """What was typed for each of `count` DSAs; a `shared` option that was given once is meant for all."""
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, option in OPTIONS.items():
        values = typed.get(name) if option.each else None
        if not values:
            continue
        if len(values) == 1 and option.each == "shared":
            values = values * count
        if len(values) != count:
            once = "once for all or once for each" if option.each == "shared" else "once for each"
            problems.append(
                Message(
                    f"It is given {len(values)} time{'s' * (len(values) != 1)} for {count} DSA{'s' * (count != 1)}",
                    at=name,
                    advice=f"Give it {once}, in the order of the DSAs.",
                )
            )
            continue
        for run, value in zip(found, values, strict=True):
            run[name] = value
    return found
