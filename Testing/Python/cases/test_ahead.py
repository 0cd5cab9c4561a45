"""A CTA that is read while others import: the same volume, the same refusal, handed over once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from DeepIterRegLib.cases.ahead import read_ahead
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume


@pytest.fixture
def cta(tmp_path: Path) -> Path:
    path = tmp_path / "cta.nii.gz"
    voxels = np.random.default_rng(0).integers(-1000, 2000, (20, 30, 40), dtype=np.int16)
    save_volume(Volume(voxels, np.diag([0.5, 0.5, 0.7, 1.0])), path)
    return path


def test_what_is_read_ahead_is_what_is_read(cta: Path) -> None:
    asked, expected = read_ahead(cta), load_volume(cta)
    for volume in (asked(), asked()):
        assert np.array_equal(volume.voxels, expected.voxels)
        assert np.array_equal(volume.affine, expected.affine)


def test_it_is_handed_over_and_not_kept(cta: Path) -> None:
    asked = read_ahead(cta)
    assert asked() is not asked()


def test_what_is_wrong_with_it_is_said_to_who_asks(cta: Path) -> None:
    cta.write_bytes(cta.read_bytes()[:-200])
    asked = read_ahead(cta)
    with pytest.raises(InputError) as at_once:
        load_volume(cta)
    with pytest.raises(InputError) as ahead:
        asked()
    assert ahead.value.problems == at_once.value.problems


@pytest.mark.parametrize(("name", "threads"), [("cta.nii.gz", "1"), ("cta.nrrd", "2")])
def test_where_nothing_is_won_it_is_read_when_it_is_asked_for(
    cta: Path, name: str, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cta.parent / name
    save_volume(load_volume(cta), path)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    monkeypatch.setattr(threading, "Thread", refuse)
    assert read_ahead(path)().voxels.shape == (20, 30, 40)
