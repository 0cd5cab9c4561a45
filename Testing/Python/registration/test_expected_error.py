"""The error to expect: what is announced, for which results, and from which file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.registration.confidence.expected_error import (
    SHIPPED_ERRORS,
    ErrorGroup,
    announced,
    group_of,
    load_groups,
)
from DeepIterRegLib.registration.result import Confidence

GROUP = ErrorGroup(0.0, 0.5, (0.5, 2.0), (0.25, 4.0), math.log(2.0), 1.0, 1.0, 3.0)
GROUPS = {"skull, one view": GROUP, "alone, two views": replace(GROUP, intercept=math.log(2.0)), "corrected": GROUP}
SURE = Confidence(0.97, 4.0, "accepted", (), {"skull_score": 0.6})


def test_median_and_intervals_of_the_group() -> None:
    said = announced(SURE, 1, 1.5, corrected=False, groups=GROUPS)
    assert said.expected_error_mm == pytest.approx(2.0)  # the root of what the features speak for
    assert said.error_68_mm == pytest.approx((1.0, 4.0))
    assert said.error_95_mm == pytest.approx((0.5, 8.0))
    assert (said.depth_68_mm, said.depth_95_mm) == pytest.approx((3.0, 9.0))
    assert said.summary.endswith(
        "expected error 2.0 mm (0.5 to 8.0 mm in 95 %), along the beam at most 9.0 mm in 95 %."
    )


def test_vessels_alone_have_a_group_of_their_own() -> None:
    alone = replace(SURE, features={})
    said = announced(alone, 3, 1.0, corrected=False, groups=GROUPS)
    assert said.expected_error_mm == pytest.approx(4.0)


def test_a_rejected_result_has_no_error_to_expect() -> None:
    """It was once announced as 46 mm: of a wrong pose no error is known."""
    rejected = announced(replace(SURE, state="rejected", probability=0.01), 1, 1.0, corrected=False, groups=GROUPS)
    assert rejected.expected_error_mm is None
    assert rejected.summary == "REJECTED: 1 % likely to be right (within 5 mm)."


def test_headers_that_were_corrected_leave_the_depth_unknown() -> None:
    said = announced(SURE, 2, 1.0, corrected=True, groups=GROUPS)
    assert said.error_95_mm is not None
    assert said.depth_95_mm is None
    assert "beam" not in said.summary


def test_every_group_ships() -> None:
    groups = load_groups()
    for views in (1, 2, 3):
        for features in ((), ("residue_score",), ("skull_score",)):
            group = groups[group_of(views, features, corrected=False)]
            assert group.within_95[0] < group.within_68[0] < 1 < group.within_68[1] < group.within_95[1]
            assert 0 < group.depth_68 < group.depth_95
    assert "corrected" in groups


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    content = json.loads(SHIPPED_ERRORS.read_text(encoding="utf-8"))
    content["model"]["corrected"]["intercept"] += 0.1
    changed = tmp_path / "expected_error.json"
    changed.write_text(json.dumps(content), encoding="utf-8")
    for path in (changed, tmp_path / "absent.json"):
        with pytest.raises(InputError, match="install DeepIterReg again"):
            load_groups(path)


def test_results_of_earlier_versions_are_read() -> None:
    old = {"probability": 0.5, "expected_error_mm": 46.0, "state": "rejected", "reasons": ["One."], "features": {}}
    read = Confidence.from_json_dict(old)
    assert read.error_words == ""
    new = announced(SURE, 1, 1.0, corrected=False, groups=GROUPS)
    again = Confidence.from_json_dict(json.loads(json.dumps(asdict(new))))
    assert again == new
