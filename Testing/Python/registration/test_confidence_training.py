"""How the confidence is trained and judged: figures with known answers, weights that keep their signs, a model that loads."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))

import cohort
import confidence as training
import confidence_cases
import confidence_figures
import confidence_judged as judging

from DeepIterRegLib.registration.confidence.assess import REASONS
from DeepIterRegLib.registration.confidence.model import load_model

RNG = np.random.default_rng(0)
NAMES = tuple(training.SIGN)
SIGNS = np.array([training.SIGN[name] for name in NAMES])


def test_every_patient_is_left_out_once_and_whole() -> None:
    groups = np.repeat(np.arange(13), 4)
    out = np.array(list(training.folds(groups)))
    assert (out.sum(axis=0) == 1).all()
    for patient in range(13):
        assert len({tuple(column) for column in out[:, groups == patient].T}) == 1


def test_calibration_error_of_known_cases() -> None:
    p = RNG.uniform(size=20000)
    assert confidence_figures.calibration_error(p, RNG.uniform(size=20000) < p) < 0.02
    half = np.arange(1000) % 2 == 0
    assert confidence_figures.calibration_error(np.full(1000, 0.9), half) == pytest.approx(0.4)


def test_accept_limit_lets_one_in_a_hundred_pass() -> None:
    p = np.linspace(0.999, 0.901, 1000)
    right = np.arange(1000) < 700
    right[[300, 650]] = False
    limit = training.accept_limit(p, right)
    wrong, accepted = confidence_figures.accepted(p, right, limit)
    assert wrong <= 0.01
    assert accepted == 1.0
    assert confidence_figures.accepted(p, right, p[720])[0] > 0.01  # a lower limit would not do
    assert training.accept_limit(p, np.zeros(1000, bool)) == 0.99
    assert training.accept_limit(p / 2, right) == training.MIN_ACCEPT


def made_up(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of which all but one follow the truth, noisily; one rising feature is reversed, as by chance."""
    error_mm = np.exp(RNG.uniform(-1, 4, n))
    good = -np.log(error_mm)
    x = good[:, None] * SIGNS + RNG.normal(0, 2.0, (n, len(SIGNS)))
    x[:, 0] *= -1
    return x, error_mm < 5, error_mm


def test_no_weight_has_the_wrong_sign() -> None:
    x, y, error_mm = made_up(4000)  # enough for chance not to speak for the reversed one
    for model, sign in ((training.logistic(x, y, SIGNS), 1), (training.linear_error(x, error_mm, SIGNS), -1)):
        assert (sign * model.weight * SIGNS >= -1e-9).all()
        assert abs(model.weight[0]) < 1e-6
    assert confidence_figures.auc(training.logistic(x, y, SIGNS)(x), y) > 0.97
    assert np.corrcoef(training.linear_error(x, error_mm, SIGNS)(x), np.log(error_mm))[0, 1] > 0.9


def test_script_writes_models_that_load(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    x, _, error_mm = made_up(240)
    features = [{**dict.fromkeys(REASONS, 0.0), **dict(zip(NAMES, row.tolist(), strict=True))} for row in x]
    with (
        (tmp_path / "confidence_cases.jsonl").open("w") as file,
        (tmp_path / "confidence_subtracted.jsonl").open("w") as subtracted,
    ):
        for seed in range(12):
            rows = [
                {
                    "row": "occluded" if i % 2 else "few vessels",
                    "kind": ("one view", "one view, started off", "a stranger's CTA")[i % 3],
                    "mpe_mm": float(error_mm[i]),
                    "features": features[i],
                }
                for i in range(20 * seed, 20 * seed + 20)
            ]
            record = {"case": {"seed": seed}, "commit": "none", "jobs": 1}
            for to in (file, subtracted):
                to.write(json.dumps({**record, **confidence_cases.packed(rows)}) + "\n")
    training.main(["--small", "--results", str(tmp_path)])
    for shipped in training.MODELS.values():
        model = load_model(tmp_path / shipped.path.name)
        assert model.names == shipped.names
        p, mm = model.predict(features[0])
        assert 0 < p < 1
        assert mm > 0
    assert (tmp_path / "confidence.png").stat().st_size > 10_000
    text = (tmp_path / "confidence.md").read_text()
    found_without_skull = np.arange(240) % 3 > 0
    for chosen in (found_without_skull, np.ones(240, bool)):
        right = int((error_mm[chosen] < 5).sum())
        assert f"{int(chosen.sum())} registrations, {right} right, of 24 phantom patients" in text
    assert "tested on" in text


def test_packed_rows_come_back_as_they_were() -> None:
    rows = [
        {"row": "occluded", "kind": "one view", "mpe_mm": 1.25, "features": {"score": 0.123456, "views": 1.0}},
        {"row": "occluded", "kind": "one view", "mpe_mm": 2.5, "features": {"score": 0.5, "residue_score": 0.25}},
    ]
    back, other = confidence_cases.unpacked({"case": {"seed": 3}, **confidence_cases.packed(rows)})
    assert other == {**rows[1], "seed": 3}
    assert back == {**rows[0], "seed": 3, "features": {"score": pytest.approx(0.123456, rel=1e-4), "views": 1.0}}


def test_shipped_models_are_judged_with_and_without_the_skull(tmp_path: Path) -> None:
    """On made-up registrations, as if of the cohort."""
    x, _, error_mm = made_up(240)
    features = [{**dict.fromkeys(REASONS, 0.0), **dict(zip(NAMES, row.tolist(), strict=True))} for row in x]
    found = [{"mpe_mm": float(mm), "features": of} for mm, of in zip(error_mm, features, strict=True)]
    records = []
    for seed in range(60):
        one, two, off, stranger = found[4 * seed : 4 * seed + 4]
        of_rows = {
            "occluded": {"one": one, "two": two, "off": off},
            "arterial phase": {"stranger": stranger, "two": {"error": "Refused."}},
        }
        records.append({"case": {"seed": seed}, "rows": of_rows})
    by_vessels = [
        {"case": {"seed": seed, "alone": True}, "rows": {row: {"one": of}}}
        for seed, (row, of) in enumerate(zip(itertools.cycle(("occluded", "arterial phase")), found))
    ]
    records, by_vessels = ([cohort.judged_only(record) for record in some] for some in (records, by_vessels))
    skull = judging.page(records, tmp_path)
    alone = judging.page([*records, *by_vessels], tmp_path)
    assert "120 patients" in skull
    assert f"240 registrations, {int((error_mm < 5).sum())} right" in skull
    assert "Vessels alone" not in skull
    assert alone.startswith(skull)
    assert "Of 240 patients" in alone
    # Those registered by vessels alone, and those started off, where the skull was not asked either.
    assert f"{240 + 60} registrations, {int((error_mm < 5).sum() + (error_mm[2::4] < 5).sum())} right" in alone
    for name in ("confidence_judged.png", "confidence_judged_alone.png"):
        assert (tmp_path / name).stat().st_size > 10_000
