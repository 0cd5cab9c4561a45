"""Inputs as hospitals, archives and damaged disks hand them over, made from a phantom patient, each with its right outcome.

The test registers none of them: it reads them by the library's own doors. `Testing/Benchmarks/awkward.py` registers them all.
"""

from __future__ import annotations

import awkward_ct
import awkward_masks
import awkward_points
import awkward_runs
from awkward_form import BIRTH_DATE, FREE_TEXT, NAME, PATIENT_ID, Awkward, Made, Plain

CASES: tuple[Awkward, ...] = (*awkward_ct.CASES, *awkward_runs.CASES, *awkward_masks.CASES, *awkward_points.CASES)
__all__ = ["CASES", "Awkward", "Made", "Plain", "leaks"]

_MOST = 16  # characters of a header that a message may quote


def leaks(text: str) -> list[str]:
    """What a text says of the patient, or quotes of the free text in the headers, that it must not."""
    identity = [*NAME.split("^"), PATIENT_ID, BIRTH_DATE]
    pieces = (FREE_TEXT[n : n + _MOST + 1] for n in range(len(FREE_TEXT) - _MOST))
    return [part for part in (*identity, *pieces) if part in text]
