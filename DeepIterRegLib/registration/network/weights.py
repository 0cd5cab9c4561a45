"""Weights of the network on disk: safetensors, and beside them a card that says what they are and proves them whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from DeepIterRegLib.common.atomic_output import output_file
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.json_files import read_json
from DeepIterRegLib.common.resources import MODELS
from DeepIterRegLib.common.shown import name_of
from DeepIterRegLib.registration.network.config import settings_from
from DeepIterRegLib.registration.network.model import PoseNetwork

FORMAT = "DeepIterReg initial pose network 1"
SHIPPED = MODELS / "initial_pose.safetensors"


def save_network(network: PoseNetwork, path: Path, facts: dict[str, Any]) -> None:
    """Write weights as 16-bit floats, and their card: `facts`, what the network was built with, and the file's hash."""
    from safetensors.torch import save

    tensors = {
        name: value.detach().cpu().contiguous().to(torch.float16 if value.is_floating_point() else value.dtype)
        for name, value in network.state_dict().items()
    }
    content = save(tensors)
    card = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), **facts}
    # The card last: weights whose card is missing, or has another hash, are refused, so no half-written pair is loaded.
    with output_file(path, (path.suffix,), overwrite=True) as beside:
        beside.write_bytes(content)
    with output_file(card_of(path), (".json",), overwrite=True) as beside:
        beside.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def card_of(path: Path) -> Path:
    """The card beside weights."""
    return path.with_suffix(".json")


def read_card(path: Path) -> dict[str, Any]:
    """What the card beside weights says.

    Raises
    ------
    InputError
        Weights or card absent, or not ours.
    """
    if not path.is_file():
        raise InputError(
            f"Network weights {name_of(path)} do not exist: give a .safetensors file, or choose another way to start."
        )
    if path.suffix != ".safetensors":
        raise InputError(
            f"Network weights {name_of(path)} are not a .safetensors file; no other kind is loaded, as it could run code."
        )
    if not card_of(path).is_file():
        raise InputError(
            f"Beside the network weights {name_of(path)} their card {name_of(card_of(path))} is missing: copy both."
        )
    card = read_json(
        card_of(path),
        f"The card {name_of(card_of(path))} of the network weights cannot be read as JSON: copy it again.",
    )
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(
            f"{name_of(card_of(path))} is not the card of an initial pose network of this version ({FORMAT})."
        )
    return card


def load_network(path: Path = SHIPPED) -> PoseNetwork:
    """Network in evaluation mode from weights and their card.

    Raises
    ------
    InputError
        Absent, truncated or changed (hash), or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = read_card(path)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise InputError(
            f"Network weights {name_of(path)} are not what their card says (SHA-256 differs): the file was changed or "
            "cut short; copy it again."
        )
    tables = {"network": card.get("settings", {}).get("network", {})}
    network = PoseNetwork(settings_from(tables, name_of(card_of(path))).network)
    try:
        tensors = {name: value.float() if value.is_floating_point() else value for name, value in load(content).items()}
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError):
        raise InputError(
            f"Network weights {name_of(path)} are of another architecture than {FORMAT}: train them with this version."
        ) from None
    network.eval()
    return network
