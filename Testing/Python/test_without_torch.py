"""A computer without torch: the defaults never ask for it, and what needs it says so. In Pythons where it cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.results.report.outputs import read_registration

HEAVY = ("diffdrr", "lightning", "monai", "safetensors", "torch")
# Whoever imports one of these is told that it is not installed, and remembered in `asked`.
WITHOUT = f"""
import sys
asked = []
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            asked.append(name)
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
"""
COMMAND = f"""{WITHOUT}
import atexit
atexit.register(lambda: print("asked for:", asked, file=sys.stderr))
sys.argv = ["deepiterreg", *sys.argv[1:]]
from DeepIterRegLib.cli import main
main()
"""
# What may need them: the rest of the library must not.
NEEDING = ("registration.network.", "registration.papers.", "rendering.raycast", "rendering.splat", "studies.experiments.")


def command(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, what was said, and what was asked for of the packages that are not there."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    said, _, asked = done.stderr.rpartition("asked for: ")
    return done.returncode, done.stdout + said, asked.strip()


def test_the_defaults_register_without_it(patient_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, asked = command("register", patient_folder / "cta.nii.gz", patient_folder / "dsa.dcm", "--out", out)
    assert (code, asked) == (0, "[]"), said
    result = read_registration(out / "registration.json")
    truth = read_pose(patient_folder / "truth.tfm")
    assert mpe_mm(result.carm, result.cta_to_carm, truth, result.centre_cta_mm) < 5
    assert not any("not installed" in warning for warning in result.warnings)
    assert not set(result.versions) & set(HEAVY) - {"torch", "diffdrr"}  # of packages that are there, by their metadata
    assert (out / "report.html").stat().st_size > 10_000


def test_looking_at_files_and_segmenting_ask_for_nothing(patient_folder: Path, tmp_path: Path) -> None:
    for words in (("info",), ("segment", "--out", tmp_path / "masks")):
        code, said, asked = command(words[0], patient_folder / "dsa.dcm", *words[1:])
        assert (code, asked) == (0, "[]"), said


@pytest.mark.parametrize(
    "words",
    [
        ("register", "cta.nii.gz", "dsa.dcm", "--preset", "paper", "--out", "{out}"),
        ("register", "cta.nii.gz", "dsa.dcm", "--device", "cuda", "--out", "{out}"),
        ("experiment", "landscape", "--out", "{out}"),
    ],
    ids=lambda words: " ".join(words[-4:-2]),
)
def test_what_needs_it_says_in_a_line_what_is_missing(
    words: tuple[str, ...], patient_folder: Path, tmp_path: Path
) -> None:
    files = {name: str(patient_folder / name) for name in ("cta.nii.gz", "dsa.dcm")}
    out = tmp_path / "out"
    code, said, _ = command(*(files.get(word, word.format(out=out)) for word in words))
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert code == 2, said
    assert len(errors) == 1, said
    assert "The Python package torch is not installed" in errors[0]
    assert errors[0].endswith("-m pip install 'deepiterreg[network]'")
    assert not out.exists() or not any(out.iterdir())


def test_only_what_computes_with_it_imports_it() -> None:
    """Every module of the library, imported on its own; a package that lacks is told by its first module that is missing."""
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    failed = json.loads(done.stdout.splitlines()[-1])
    assert failed["rendering.splat"] == "torch"
    assert [name for name in failed if not name.startswith(NEEDING)] == []


def test_importing_the_package_and_its_help_ask_for_nothing() -> None:
    for code in ("import DeepIterRegLib", "sys.argv[1:] = ['--help']\nfrom DeepIterRegLib.cli import main\nmain()"):
        check = (
            "import atexit, json\n"
            "slow = {'numpy', 'scipy', 'numba', 'SimpleITK', 'pydicom', 'pydantic', 'pygments', 'markdown_it', *HEAVY}\n"
            "atexit.register(lambda: print(json.dumps(sorted(slow & set(sys.modules)))))\n"
        ).replace("HEAVY", repr(HEAVY))
        done = subprocess.run(
            [sys.executable, "-c", f"import sys\n{check}{code}"], capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"
