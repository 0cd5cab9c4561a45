"""Where the files lie that ship beside the code: trained models and their settings."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


def models_folder() -> Path:
    """`Resources/Models` of a checkout or of Slicer's module folder; in an installed package, where its installer put them."""
    beside = Path(__file__).resolve().parents[2] / "Resources" / "Models"
    if beside.is_dir():
        return beside
    # Asked of the installer, as it decides where data files go: below the prefix of an environment, or of a user.
    for file in metadata.files("deepiterreg") or ():
        if file.parts[-3:-1] == ("deepiterreg", "Models"):
            return Path(str(file.locate())).resolve().parent
    # Not there either: whoever opens a file in it says where it was looked for.
    return beside


MODELS = models_folder()
