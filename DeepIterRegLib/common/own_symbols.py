"""Compiled packages that must find their own functions, not those of the same name that the program around them has loaded.

python-gdcm and ITK, which 3D Slicer and SimpleITK bring, both hold GDCM. Loaded second, python-gdcm ran ITK's, and the process
ended in a segmentation fault when both tidied up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType

OWN = ("_gdcm._gdcmswig",)  # modules that are bound so
_DEEP = getattr(os, "RTLD_DEEPBIND", 0)  # other systems than Linux look a library's symbols up in itself first


class _OwnLoader(ExtensionFileLoader):
    """Loads a compiled module with its own symbols before everybody's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        before = sys.getdlopenflags()
        sys.setdlopenflags(os.RTLD_NOW | _DEEP)
        try:
            return super().create_module(spec)
        finally:
            sys.setdlopenflags(before)


class _OwnFinder(MetaPathFinder):
    """Finds the modules of `OWN`, whoever imports them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in OWN:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            spec.loader = _OwnLoader(spec.loader.name, spec.loader.path)
        return spec


def bind_own() -> None:
    """From now on; of no use for what is imported already. May be called more than once."""
    known = any(type(finder).__name__ == _OwnFinder.__name__ for finder in sys.meta_path)
    if _DEEP and not known:
        sys.meta_path.insert(0, _OwnFinder())
