"""Training of the network: the same twice, and of one patient alone."""

import dataclasses
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.registration.network.config import (
    LearningSettings,
    TrainSettings,
)
from DeepIterRegLib.registration.network.heads import HeadPoints, make_head_points
from DeepIterRegLib.registration.network.model import (
    NetworkSettings,
    PoseNetwork,
)
from DeepIterRegLib.registration.network.weights import card_of, load_network, save_network

SMALL = NetworkSettings(rows=32, pixel_mm=8.0)


@pytest.fixture(scope="module")
def head() -> HeadPoints:
    return make_head_points(5)


def tiny(**changes: object) -> TrainSettings:
    learning = LearningSettings(
        heads=2,
        batch=2,
        batches=2,
        epochs=2,
        judged=2,
        workers=0,
        loss_points=200,
        schedule="constant",
        accelerator="cpu",
        precision="32-true",
    )
    return TrainSettings(network=SMALL, training=dataclasses.replace(learning, **changes))  # type: ignore[arg-type]


def test_training_is_deterministic_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = pytest.importorskip("DeepIterRegLib.registration.network.training")
    whole = training.train(tiny(), tmp_path / "whole", quiet=True)
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 5000

    class Stopped(Exception):
        pass

    whole_step = training.Training.training_step

    def stop(module: object, batch: object, index: int) -> object:
        if module.current_epoch == 1:  # type: ignore[attr-defined]
            raise Stopped
        return whole_step(module, batch, index)

    with monkeypatch.context() as patched:
        patched.setattr(training.Training, "training_step", stop)
        with pytest.raises(Stopped):
            training.train(tiny(), tmp_path / "parts", quiet=True)
    assert not (tmp_path / "parts" / training.WEIGHTS).exists()
    parts = training.train(tiny(), tmp_path / "parts", quiet=True)
    assert parts.read_bytes() == whole.read_bytes()
    with pytest.raises(InputError, match=r"other settings \(training.rate\)"):
        training.train(tiny(rate=0.5), tmp_path / "parts", quiet=True)

    card = json.loads(card_of(whole).read_text())
    assert card["settings"]["network"]["rows"] == 32
    again = load_network(whole)
    assert again.settings == SMALL


def _save_mask(path: Path, head: HeadPoints, spacing_mm: float) -> None:
    """The head's vessels as a mask."""
    from DeepIterRegLib.images.files import save_volume
    from DeepIterRegLib.images.volume import Volume

    index = np.unique(np.rint((head.axis_mm + head.offset_mm)[head.radius_mm > 1] / spacing_mm).astype(int), axis=0)
    index -= index.min(axis=0) - 2
    voxels = np.zeros(tuple(index.max(axis=0)[::-1] + 3), dtype=np.uint8)
    voxels[tuple(index.T[::-1])] = 1
    save_volume(Volume(voxels, np.diag([spacing_mm] * 3 + [1])), path)


def test_one_patients_own_veins_can_be_trained_on(tmp_path: Path, head: HeadPoints) -> None:
    training = pytest.importorskip("DeepIterRegLib.registration.network.training")
    _save_mask(tmp_path / "mask.nii.gz", head, 1.5)
    start = tmp_path / "start.safetensors"
    save_network(PoseNetwork(SMALL), start, {"settings": {"network": dataclasses.asdict(SMALL)}})
    settings = tiny(patient=str(tmp_path / "mask.nii.gz"), start_from=str(start), epochs=1, rate=1e-9)
    tuned = load_network(training.train(settings, tmp_path / "tuned", quiet=True))
    before = load_network(start)
    for name, value in before.named_parameters():
        assert torch.allclose(value, tuned.get_parameter(name), atol=2e-3)


def test_another_patient_is_kept_out_of_a_training_and_its_files_name_no_folders(
    tmp_path: Path, head: HeadPoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = pytest.importorskip("DeepIterRegLib.registration.network.training")
    masks = [tmp_path / "Mustermann_Erika" / name for name in ("Mustermann.nii.gz", "other.nii.gz")]
    masks[0].parent.mkdir()
    for number, mask in enumerate(masks):
        _save_mask(mask, head, 1.5 + 0.1 * number)
    out = tmp_path / "Mustermann_Erika" / "tuned"

    class Stopped(Exception):
        pass

    def stop(*arguments: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:  # before the first checkpoint
        patched.setattr(training.Training, "training_step", stop)
        with pytest.raises(Stopped):
            training.train(tiny(patient=str(masks[0]), epochs=1), out, quiet=True)
    assert not (out / training.CHECKPOINT).exists()
    head_file = (out / "heads" / "head00000.npz").read_bytes()
    with pytest.raises(InputError, match="tuned holds a training on another patient"):
        training.train(tiny(patient=str(masks[1]), epochs=1), out, quiet=True)
    with pytest.raises(InputError, match="another patient"):
        training.train(tiny(epochs=1), out, quiet=True)
    assert (out / "heads" / "head00000.npz").read_bytes() == head_file
    moved = masks[0].rename(tmp_path / "elsewhere.nii.gz")  # the same CTA, wherever it lies
    weights = training.train(tiny(patient=str(moved), epochs=1), out, quiet=True)
    card, kept = json.loads(card_of(weights).read_text()), json.loads((out / "settings.json").read_text())
    assert card["settings"] == kept
    assert re.fullmatch("sha256:[0-9a-f]{64}", kept["training"]["patient"])
    with zipfile.ZipFile(out / training.CHECKPOINT) as checkpoint:
        assert not any(b"Mustermann" in checkpoint.read(name) for name in checkpoint.namelist())
    for path in out.rglob("*"):
        assert not path.is_file() or b"Mustermann" not in path.read_bytes(), path.name
