"""A Slicer that has used the module ends as it should, and its log holds nothing but what somebody can use."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from repository import ROOT

import standin

standin.installSlicer()

# What Slicer has loaded before any module of it: ITK's GDCM, whose symbols everybody sees.
SESSION = """
import ctypes, pathlib, sys
import slicer_core
folder = pathlib.Path(slicer_core.__file__).parent / "third_party.libs"
for name in ("Common", "DICT", "DSED", "IOD", "MSFF"):
    ctypes.CDLL(str(next(folder.glob(f"libitkgdcm{name}-*.so"))), ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(next(folder.glob("libITKIOGDCM-*.so"))), ctypes.RTLD_GLOBAL)
sys.path[:0] = sys.argv[1:4]
import standin
standin.installSlicer()
standin.install()
standin.loadModule(sys.argv[4])
import pydicom
import gdcm
print(gdcm.Version.GetVersion())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems libraries do not share symbols so")
def test_gdcm_is_its_own_and_the_process_ends_with_0() -> None:
    """It reported ITK's version, and the process ended in a segmentation fault."""
    paths = [ROOT, ROOT / "DeepIterReg", ROOT / "Testing/Slicer", ROOT / "DeepIterReg/DeepIterReg.py"]
    done = subprocess.run(
        [sys.executable, "-c", SESSION, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.stdout.split() == [importlib.metadata.version("python-gdcm")], done.stderr
    assert done.returncode == 0, done.stderr


def test_packages_write_no_details_into_slicers_log(scene: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Slicer's root logger stands at DEBUG."""
    import numba

    from DeepIterRegSlicer.loggers import PACKAGES
    from DeepIterRegSlicer.logic import DeepIterRegLogic

    before = {name: logging.getLogger(name).level for name in PACKAGES}
    try:
        for name in PACKAGES:
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger("PIL").setLevel(logging.ERROR)  # chosen by somebody
        DeepIterRegLogic()
        with caplog.at_level(logging.DEBUG):
            numba.njit(lambda x: x + 1)(1)
            for name in PACKAGES:
                logging.getLogger(f"{name}.part").info("detail")
                logging.getLogger(f"{name}.part").warning("of use")
        lines = [(record.name, record.getMessage()) for record in caplog.records]
        assert sorted(lines) == sorted((f"{name}.part", "of use") for name in PACKAGES if name != "PIL")
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
