"""Kernels compiled meanwhile: by a process that is not left behind, the first time only, and not with one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from repository import ROOT

from DeepIterRegLib.registration import compiled

CODE = """
from DeepIterRegLib.common.compiler import kernel_folder
from DeepIterRegLib.registration.compiled import compiles_meanwhile, compiling_search
said = [compiles_meanwhile()]
try:
    with compiling_search() as goes_on:
        said.append(goes_on())
        with compiling_search() as of_another:  # one process is enough
            said.append(of_another())
        said.append(goes_on())
        raise KeyboardInterrupt
except KeyboardInterrupt:
    said.append(goes_on())
(kernel_folder() / "compiled").touch()
with compiling_search() as goes_on:
    print(*said, compiles_meanwhile(), goes_on())
"""


@pytest.mark.parametrize(("threads", "goes_on"), [("2", "True"), ("1", "False")])
def test_the_process_ends_with_the_work_that_it_goes_on_beside(threads: str, goes_on: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NUMBA_NUM_THREADS": threads,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [goes_on] * 4 + ["False"] * 3


def test_who_waits_compiles_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(x: int) -> int:
        return 2 * x

    kernels = [(numba.njit(twice), (kind,)) for kind in (numba.int64, numba.float64)]
    monkeypatch.setattr(compiled, "signatures", lambda everything: kernels)
    monkeypatch.setattr(compiled, "kernel_folder", lambda: tmp_path)
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    assert compiled.compiles_meanwhile()
    pieces = compiled.helping()
    next(pieces)
    assert [kernel.signatures for kernel, _ in kernels] == [[], [(numba.float64,)]]
    assert list(pieces) == [None]
    assert kernels[0][0].signatures == [(numba.int64,)]
    assert not compiled.compiles_meanwhile()
