"""A computer without torch: the defaults never ask for it, and what needs it says so. In an environment that lacks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import ROOT

from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.results.report.outputs import read_registration

# Packages as they are imported, and as pip calls them.
HEAVY = ("diffdrr", "lightning", "monai", "pytorch_lightning", "safetensors", "torch", "torchio", "torchvision")
# Remembers which of them are asked for, in whatever environment.
WITHOUT = f"""
import sys
asked = []
class Heard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            asked.append(name)
sys.meta_path.insert(0, Heard())
"""
COMMAND = f"""{WITHOUT}
import atexit
atexit.register(lambda: print("asked for:", asked, file=sys.stderr))
sys.argv = ["deepiterreg", *sys.argv[1:]]
from DeepIterRegLib.cli import main
main()
"""
# What may need them: the rest of the library must not.
NEEDING = (
    "registration.compute.fused",
    "registration.compute.operations",
    "registration.compute.tensors",
    "registration.network.",
    "registration.papers.",
    "rendering.raycast",
    "rendering.splat",
    "studies.experiments.",
    "segmentation.cta.joined",
    "segmentation.cta.morphology",
    "segmentation.cta.tensors",
    "segmentation.dsa_tensors",
)


Lean = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Lean:
    """Runs Python in an environment that has all packages of this one but these."""
    packages = tmp_path_factory.mktemp("lean") / "packages"
    packages.mkdir()
    for installed in {Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")}:
        for path in installed.iterdir():
            name = path.name.partition("-")[0].partition(".")[0].lower()
            if name not in HEAVY and path.suffix != ".pth" and not (packages / path.name).exists():
                (packages / path.name).symlink_to(path)

    def run(code: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(packages)])},
            check=False,
        )

    return run


def command(lean: Lean, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, what was said, and which of the packages were asked for."""
    done = lean(COMMAND, *words)
    said, _, asked = done.stderr.rpartition("asked for: ")
    return done.returncode, done.stdout + said, asked.strip()


def test_the_environment_is_what_it_says(lean: Lean) -> None:
    code = "import importlib.util, importlib.metadata, json\n" + (
        f"print([n for n in {HEAVY!r} if importlib.util.find_spec(n) or n in importlib.metadata.packages_distributions()])"
    )
    done = lean(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_defaults_register_without_it(lean: Lean, patient_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, asked = command(
        lean, "register", patient_folder / "cta.nii.gz", patient_folder / "dsa.dcm", "--out", out
    )
    assert (code, asked) == (0, "[]"), said
    result = read_registration(out / "registration.json")
    truth = read_pose(patient_folder / "truth.tfm")
    assert mpe_mm(result.carm, result.cta_to_carm, truth, result.centre_cta_mm) < 5
    assert not any("not installed" in warning for warning in result.warnings)
    assert not set(result.versions) & set(HEAVY)
    assert (out / "report.html").stat().st_size > 10_000


# As if the driver knew a card, which needs no torch to be asked.
WITH_CARD = f"""
import sys
from DeepIterRegLib.common import devices
devices.cards = lambda: 1
{COMMAND}"""


@pytest.mark.parametrize(
    ("words", "code_of"),
    [
        (("register", "cta.nii.gz", "dsa.dcm", "--preset", "paper", "--out", "{out}"), COMMAND),
        (("register", "cta.nii.gz", "dsa.dcm", "--device", "cuda", "--out", "{out}"), WITH_CARD),
    ],
    ids=["the published preset", "a card"],
)
def test_what_needs_it_says_in_a_line_what_is_missing(
    words: tuple[str, ...], code_of: str, lean: Lean, patient_folder: Path, tmp_path: Path
) -> None:
    files = {name: str(patient_folder / name) for name in ("cta.nii.gz", "dsa.dcm")}
    out = tmp_path / "out"
    done = lean(code_of, *(files.get(word, word.format(out=out)) for word in words))
    code, said = done.returncode, done.stdout + done.stderr.rpartition("asked for: ")[0]
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert code == 2, said
    assert len(errors) == 1, said
    assert "The Python package torch is not installed" in errors[0]
    assert errors[0].endswith("-m pip install 'deepiterreg[network]'")
    assert list(tmp_path.iterdir()) == []


def test_only_what_computes_with_it_imports_it(lean: Lean) -> None:
    """Every module of the library, by what it lacks."""
    code = f"""{WITHOUT}
import importlib, json, pkgutil
import DeepIterRegLib
failed = {{}}
for found in pkgutil.walk_packages(DeepIterRegLib.__path__, "DeepIterRegLib."):
    if found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        failed[found.name.removeprefix("DeepIterRegLib.")] = error.name
print(json.dumps(failed))
"""
    done = lean(code)
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout.splitlines()[-1])
    assert failed["rendering.splat"] == "torch"
    assert [name for name in failed if not name.startswith(NEEDING)] == []


@pytest.mark.parametrize(
    "code", ["import DeepIterRegLib", "sys.argv[1:] = ['--help']\nfrom DeepIterRegLib.cli import main\nmain()"]
)
def test_importing_the_package_and_its_help_import_nothing_that_takes_time(code: str) -> None:
    slow = {"markdown_it", "numba", "numpy", "pydantic", "pydicom", "pygments", "scipy", "SimpleITK", *HEAVY}
    told = f"import atexit, sys\natexit.register(lambda: print(sorted({slow!r} & set(sys.modules))))\n"
    done = subprocess.run([sys.executable, "-c", told + code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_look_at_a_run_waits_for_no_compiler(patient_folder: Path) -> None:
    """What `info` imports, of all that a registration needs."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom DeepIterRegLib.cases.describe import describe_file\n"
        "describe_file(Path(sys.argv[1]))\n"
        "print(sorted({'numba', 'skimage', 'torch', 'SimpleITK', 'scipy.optimize', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(patient_folder / "dsa.dcm")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
