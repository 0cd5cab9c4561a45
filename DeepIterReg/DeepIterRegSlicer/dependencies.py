"""The Python packages that the library needs in Slicer: what is missing, and installing it after asking once.

A registration by the defaults needs neither torch nor what builds on it: the network and the preset `paper` do. torch comes through
Slicer's PyTorch extension, which picks the build for the graphics card; the rest with `slicer.packaging`. What Slicer bundles is
never replaced.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import slicer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegSlicer.words import _

Ask = Callable[[str, str], bool]  # a question and its details; True to go on

# `slicer.packaging` came with 5.11, and 5.12 is the first release that has it.
OLDEST_SLICER = (5, 12)
TORCH = Requirement("torch>=2.6")

# What Slicer 5.12 brings itself. VTK has no Python package there: only this list keeps pip from adding a second one.
BUNDLED = (
    "certifi",
    "cffi",
    "chardet",
    "charset-normalizer",
    "couchdb",
    "cryptography",
    "dcmqi",
    "deprecated",
    "dicomweb-client",
    "gitdb",
    "gitpython",
    "highdicom",
    "idna",
    "numpy",
    "packaging",
    "pillow",
    "pip",
    "pycparser",
    "pydicom",
    "pygithub",
    "pyjpegls",
    "pyjwt",
    "pynacl",
    "pyparsing",
    "python-dateutil",
    "requests",
    "retrying",
    "scipy",
    "setuptools",
    "simpleitk",
    "six",
    "smmap",
    "typing-extensions",
    "urllib3",
    "vtk",
    "wheel",
    "wrapt",
)
# What comes with the PyTorch extension.
OF_PYTORCH = ("torch", "torchvision")
# What only the network and the preset `paper` need, besides torch.
OF_NETWORK = ("diffdrr", "safetensors")
# Imported only where its renderers are asked for.
NOT_IMPORTED = ("diffdrr",)
# What DiffDRR lists, but its renderers, all that is used here, do not import (imageio it lists too; scikit-image wants it).
UNUSED_BY_DIFFDRR = (
    "einops",
    "fastcore",
    "kornia",
    "matplotlib",
    "pyvista",
    "roma",
    "seaborn",
    "timm",
    "torchio",
    "tqdm",
)


def requirementsFile() -> Path:
    """Beside the module when installed, one folder up in a source checkout."""
    module = Path(__file__).resolve().parents[1]
    found = [folder / "Resources" / "requirements.txt" for folder in (module, module.parent)]
    return next((path for path in found if path.is_file()), found[0])


def requirements() -> list[Requirement]:
    """What the library needs besides torch and what Slicer bundles."""
    lines = (line.partition("#")[0].strip() for line in requirementsFile().read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def skipped() -> list[str]:
    """Packages that pip must leave alone, whatever asks for them."""
    return [*BUNDLED, *OF_PYTORCH, *UNUSED_BY_DIFFDRR]


def wantsNetwork(init: str | None, preset: str, device: str) -> bool:
    """Whether options ask for what needs torch: the network, the published method, or a graphics card."""
    return init == "network" or preset == "paper" or device.startswith("cuda")


def needed(network: bool = False) -> list[Requirement]:
    """What a registration needs; with `network` also what the network and the preset `paper` do."""
    if network:
        return [TORCH, *requirements()]
    return [requirement for requirement in requirements() if requirement.name not in OF_NETWORK]


def missing(network: bool = False) -> list[Requirement]:
    """What of the `needed` is not installed, or too old."""
    # What pip has just installed is else not seen by this process.
    importlib.invalidate_caches()
    return [requirement for requirement in needed(network) if not _installed(requirement)]


# Imports every module of the packages named and prints, for those that fail, the module and the fault's kind.
_IMPORT = """
import importlib, importlib.metadata, json, re, sys
own = importlib.metadata.packages_distributions()
failed = {}
for name in sys.argv[1:]:
    same = lambda other: re.sub("[-_.]+", "-", other).lower() == re.sub("[-_.]+", "-", name).lower()
    for module in sorted(m for m, packages in own.items() if m.isidentifier() and m[0] != "_" and any(map(same, packages))):
        try:
            importlib.import_module(module)
        except BaseException as error:
            failed.setdefault(name, (getattr(error, "name", None) or module) + ": " + type(error).__name__)
print(json.dumps(failed))
"""
_CHECKED = "DeepIterReg/importedPackages"  # of Slicer's settings: the versions that were seen to import
_IMPORT_S = 300


def broken(network: bool = False) -> dict[str, str]:
    """Packages of the `needed` that are installed but do not import, and why.

    They are looked at in a Python of its own, once for every set of versions.
    An interrupted installation leaves the metadata that `missing` looks at, and half of the files.
    """
    if "qt" not in sys.modules:
        return {}  # such a Slicer keeps no settings and would look again each time; a batch says what is broken where it is used
    names = [requirement.name for requirement in needed(network) if requirement.name not in NOT_IMPORTED]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in (*names, "numpy"))
    settings = slicer.app.userSettings()
    if versions in _imported or settings.value(_CHECKED) == versions:
        return {}
    if not (names := _notLoaded(names)):
        return {}
    python = shutil.which("PythonSlicer") or sys.executable
    try:
        done = subprocess.run(
            [python, "-c", _IMPORT, *names], capture_output=True, text=True, timeout=_IMPORT_S, stdin=subprocess.DEVNULL
        )
        failed: dict[str, str] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return {}  # nothing is known: what is broken is then said where it is used
    if not failed:
        _imported.append(versions)
        settings.setValue(_CHECKED, versions)
    return failed


def _notLoaded(names: list[str]) -> list[str]:
    """Of packages, those that this process has not imported already."""
    loaded = {
        canonicalize_name(package)
        for module, packages in importlib.metadata.packages_distributions().items()
        if module in sys.modules
        for package in packages
    }
    return [name for name in names if canonicalize_name(name) not in loaded]


_imported: list[str] = []  # the versions seen to import since Slicer started


def _installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    # Without pre-releases a nightly build of torch would count as missing.
    return requirement.specifier.contains(version, prereleases=True)


# -- installing ------------------------------------------------------------------------------------


def checkSlicer() -> None:
    """Refuse a Slicer that is too old.

    :raises InputError: with the version found and the one needed.
    """
    app = getattr(slicer, "app", None)
    if app is None:  # slicer-core outside Slicer
        return
    if (app.majorVersion, app.minorVersion) < OLDEST_SLICER:
        raise InputError(
            _(
                "DeepIterReg needs Slicer {oldest} or later; "
                "this is {found}. Get the latest from https://download.slicer.org."
            ).format(oldest=".".join(map(str, OLDEST_SLICER)), found=f"{app.majorVersion}.{app.minorVersion}")
        )


def askUser(question: str, details: str) -> bool:
    """A box with the packages in its details."""
    return bool(
        slicer.util.confirmOkCancelDisplay(question, _("DeepIterReg: install Python packages"), detailedText=details)
    )


def agree(question: str, details: str) -> bool:
    """For a batch told to install."""
    return True


def decline(question: str, details: str) -> bool:
    """For a batch: nobody is there to be asked."""
    return False


def ensure(ask: Ask = askUser, network: bool = False) -> None:
    """Install what is missing, after one question; nothing is done and asked if nothing is missing.

    Call on the main thread, at first use. In Slicer's testing mode nothing is installed.

    :param network: whether what `wantsNetwork` is asked for.
    :raises InputError: Slicer is too old, the answer was no, or something is still missing; the text says what to do.
    """
    checkSlicer()
    app = getattr(slicer, "app", None)
    if app is None:  # slicer-core outside Slicer: pip has seen to it
        return
    if not (lacking := missing(network)):
        _refuseBroken(network)
        return
    names = ", ".join(str(requirement) for requirement in lacking)
    if app.testingEnabled() or not ask(_question(len(lacking)), names.replace(", ", "\n")):
        raise InputError(
            Message(
                _("Python packages are missing: {names}").format(names=names),
                advice=_("Start a registration in the module's panel and agree to install them."),
                give=("install",),
            )
        )
    if TORCH in lacking:
        _installTorch()
    _installRest([str(requirement) for requirement in lacking if requirement is not TORCH])
    if still := missing(network):
        raise InputError(
            _(
                "Python packages are still missing: {packages}. "
                "See Slicer's log for what pip said (View, Error log), restart Slicer and try again."
            ).format(packages=", ".join(map(str, still)))
        )
    _refuseBroken(network)


def _refuseBroken(network: bool) -> None:
    if not (failed := broken(network)):
        return
    sentences = [
        _(
            "Python package {name} is installed but does not import ({why}), as after an installation that was interrupted: "
        ).format(name=name, why=why)
        + (
            _("open the module PyTorch Util, uninstall PyTorch, restart Slicer and try again.")
            if name == TORCH.name
            else _(
                'type slicer.util.pip_uninstall("{name}") at the Python console, restart Slicer and try again.'
            ).format(name=name)
        )
        for name, why in failed.items()
    ]
    raise InputError(sentences)


def _question(count: int) -> str:
    return _(
        "DeepIterReg needs {count} Python packages that are not installed.\n\n"
        "Installing them changes Slicer's Python environment and can take minutes. Go on?"
    ).format(count=count)


def _installTorch() -> None:
    try:
        # Never by pip: PyPI has one build of torch a system, and the extension picks that of the graphics card.
        import PyTorchUtils
    except ModuleNotFoundError as error:
        raise InputError(
            _(
                "The network and the preset paper need PyTorch, which comes with the PyTorch extension: "
                "install PyTorch in View, Extensions Manager, restart Slicer and try again."
            )
        ) from error
    # Not replaced here: a torch that was imported already stays in use until Slicer starts anew.
    if PyTorchUtils.PyTorchUtilsLogic.torchInstalled():
        raise InputError(
            _(
                "PyTorch {found} is too old; {needed} is needed: "
                "open the module PyTorch Util, uninstall PyTorch, restart Slicer and try again."
            ).format(found=importlib.metadata.version("torch"), needed=TORCH.specifier)
        )
    logic = PyTorchUtils.PyTorchUtilsLogic()
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=str(TORCH.specifier)) is None:
        raise InputError(_("PyTorch was not installed: open the module PyTorch Util and install it there."))


def _installRest(lacking: list[str]) -> None:
    if not lacking:
        return
    import slicer.packaging

    try:
        slicer.packaging.pip_ensure(
            lacking,
            skip_packages=skipped(),
            prompt_install=False,
            # A batch has nobody to answer the box.
            prompt_restart=slicer.util.mainWindow() is not None,
            requester="DeepIterReg",
        )
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise InputError(
            _(
                "Installing {packages} failed. Look at Slicer's log (View, Error log); is there a network connection?"
            ).format(packages=", ".join(lacking))
        ) from error
