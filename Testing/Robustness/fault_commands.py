"""Every command that writes, on small made inputs; what it leaves, and whether that is whole."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
LOCK = ".deepiterreg.lock"

Files = dict[str, str]  # of what stands in a place: relative name to a hash of the content


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes
    ----------
    arguments
        From the folder of the inputs; without the output.
    suffix
        Of the output file; empty for a folder.
    keeps
        A long job: what it did before a fault stays in its folder, and the same command goes on.
    replaces
        Takes `--overwrite`.
    weight
        How many of the kills fall to it.
    forks
        May run in a fork; one that starts processes itself may not.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    suffix: str = ""
    keeps: bool = False
    replaces: bool = True
    weight: int = 16
    forks: bool = True

    def typed(self, inputs: Path, out: Path, *, overwrite: bool = False) -> list[str]:
        more = ["--overwrite"] if overwrite and self.replaces else []
        return [sys.executable, "-m", "DeepIterRegLib.cli", *self.arguments(inputs), "--out", str(out), *more]


def commands(*, small: bool) -> list[Command]:
    """All of them; small: those that need no registration."""
    quick = [
        Command("export itk", lambda i: ["export", str(i / "result"), "--to", "itk"], ".tfm"),
        Command("export opencv", lambda i: ["export", str(i / "result"), "--to", "opencv"], ".json"),
        Command("study analyse", lambda i: ["study", "analyse", str(i / "ranks.csv")]),
    ]
    if small:
        return quick[:1]

    def with_run(to: str) -> Callable[[Path], list[str]]:
        return lambda i: ["export", str(i / "result"), "--to", to, "--dsa", str(i / "dsa.dcm")]

    def registering(i: Path) -> list[str]:
        files = [str(i / "cta.nii.gz"), str(i / "dsa.dcm")]
        return ["register", *files, "--init", str(i / "truth.tfm"), "--cta-mask", str(i / "arteries.nii.gz")]

    def following(i: Path) -> list[str]:
        mask = ["--cta-mask", str(i / "arteries.nii.gz")]
        return ["follow", str(i / "cta.nii.gz"), "--incoming", str(i / "runs"), "--until-idle", "1", *mask]

    def projecting(i: Path) -> list[str]:
        return ["project", str(i / "arteries.nii.gz"), "--like", str(i / "dsa.dcm"), "--pose", str(i / "truth.tfm")]

    def roadmap(i: Path) -> list[str]:
        item = f"{i / 'arteries.nii.gz'}:red"
        return ["project", "--like", str(i / "dsa.dcm"), "--pose", str(i / "truth.tfm"), "--item", item]

    return [
        *quick,
        Command("register", registering, weight=24),
        Command("segment CTA", lambda i: ["segment", str(i / "cta.nii.gz")]),
        Command("segment DSA", lambda i: ["segment", str(i / "dsa.dcm")]),
        Command("project", projecting, ".nii.gz"),
        Command("project items", roadmap, ".png"),
        Command("train", lambda i: ["train", "--config", str(i / "tiny.toml")], keeps=True, replaces=False),
        Command("batch", lambda i: ["batch", "--cases", str(i / "cases.csv")], keeps=True, replaces=False, weight=24),
        Command(
            "batch, 2 workers",
            lambda i: ["batch", "--cases", str(i / "cases.csv"), "--workers", "2"],
            keeps=True,
            replaces=False,
            weight=24,
            forks=False,
        ),
        Command("follow", following, keeps=True, replaces=False, weight=40),
        Command(
            "experiment",
            lambda i: ["experiment", "landscape", "--n", "2", "--small"],
            keeps=True,
            replaces=False,
        ),
        *(
            Command(f"export {to}", lambda i, to=to: ["export", str(i / "result"), "--to", to], ".json")
            for to in ("diffdrr", "nanodrr", "vtk")
        ),
        Command("export dicom", with_run("dicom")),
        Command("export mp4", with_run("mp4"), ".mp4"),
        Command("export gif", with_run("gif"), ".gif"),
        Command(
            "study make", lambda i: ["study", "make", "--cases", str(i / "study.csv"), "--readers", "2"], replaces=False
        ),
        Command("study unblind", lambda i: ["study", "unblind", str(i / "study")], ".csv"),
        # Of full size: they take longest, and come last.
        Command("phantom", lambda i: ["phantom", "--seed", "3"], weight=4),
        Command("phantom procedure", lambda i: ["phantom", "--procedure", "--seed", "3"], weight=2),
        Command("demo", lambda i: ["demo", "--seed", "3"], replaces=False, weight=4),
    ]


# -- inputs --------------------------------------------------------------------------------------------


def make_inputs(folder: Path, *, small: bool) -> None:
    """Made once; a folder that is there is whole."""
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".made")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rows = [("r1", f"p{n}", "A", "B", 1 + n % 5) for n in range(12)] + [
        ("r2", f"p{n}", "A", "B", 1 + n % 4) for n in range(12)
    ]
    _write_csv(partial / "ranks.csv", [("reader", "patient", "left", "right", "rank"), *rows])
    if small:
        _write_made_result(partial / "result")
    else:
        _write_patient(partial)
    partial.rename(folder)


def _write_made_result(folder: Path) -> None:
    """A registration.json without a registration: enough for what needs a pose alone."""
    from made_registration import made_registration

    folder.mkdir()
    (folder / "registration.json").write_text(json.dumps(made_registration(64).to_json_dict()), encoding="utf-8")


def _write_patient(folder: Path) -> None:
    from DeepIterRegLib.phantom import PhantomSettings, make_patient, second_run, write_patient
    from DeepIterRegLib.phantom.settings import CtaSettings, ViewSettings

    coarse = PhantomSettings(
        cta=CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0)), view=ViewSettings(matrices=(256,))
    )
    patient = make_patient(1, coarse)
    write_patient(patient, folder, second_run(patient))
    (folder / "runs").mkdir()
    for name in ("dsa.dcm", "dsa2.dcm"):
        shutil.copy(folder / name, folder / "runs")
    files = {"cta": "cta.nii.gz", "dsa": "dsa.dcm", "init": "truth.tfm", "cta_mask": "arteries.nii.gz"}
    rows = [("one", *files.values(), 1), ("two", *files.values(), 2), ("three", *files.values(), 3)]
    _write_csv(folder / "cases.csv", [("name", *files, "seed"), *rows])
    tiny = {"heads": 2, "batch": 2, "batches": 2, "epochs": 3, "judged": 2, "workers": 0, "loss_points": 200}
    words = "\n".join(f"{name} = {value}" for name, value in tiny.items())
    (folder / "tiny.toml").write_text(
        f'[network]\nrows = 32\npixel_mm = 8.0\n[training]\n{words}\nschedule = "constant"\naccelerator = "cpu"\nprecision = "32-true"\n'
    )
    register = next(command for command in commands(small=False) if command.name == "register")
    for name in ("result", "other"):
        _done(register.typed(folder, folder / name))
    _write_csv(
        folder / "study.csv",
        [("patient", "method", "folder", "dsa"), ("p1", "A", "result", "dsa.dcm"), ("p1", "B", "other", "dsa.dcm")],
    )
    make = [sys.executable, "-m", "DeepIterRegLib.cli", "study", "make", "--cases", str(folder / "study.csv")]
    _done([*make, "--out", str(folder / "study")])
    shown = json.loads((folder / "study/reader1/study.json").read_text(encoding="utf-8"))["comparisons"]
    answers = [("reader1", comparison["id"], 1, "", 3.0) for comparison in shown]
    _write_csv(folder / "study/reader1/ranks.csv", [("reader", "comparison", "rank", "comment", "seconds"), *answers])


def _write_csv(path: Path, rows: list[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _done(words: list[str]) -> None:
    subprocess.run(words, env=ENVIRONMENT, check=True, capture_output=True)


# -- what stands in a place ----------------------------------------------------------------------------


def files_at(place: Path) -> Files:
    """Every file of an output, hidden ones too; empty where there is none."""
    paths = [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def names_at(place: Path) -> frozenset[str]:
    """Names of an output, those drawn at random as one; logs, of which each start of a training has its own, are left out."""
    drawn = re.compile(r"[0-9a-f]{10}(-left|-right)?")
    return frozenset(drawn.sub("#", name) for name in files_at(place) if name != LOCK and not name.startswith("logs/"))


def leftovers(place: Path) -> list[str]:
    """Half-written things of ours, and locks, in a folder and everything below it."""
    return sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.name == LOCK or path.name.endswith((".partial", ".part", ".old")) or ".part." in path.name
    )


def damage(place: Path) -> Iterator[str]:
    """Every file below a place that is not whole, with what is wrong; scratch folders apart."""
    paths = [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]
    for path in paths:
        if any(part.endswith(".partial") for part in path.parts) or path.name == LOCK:
            continue
        try:
            _check(path)
        except Exception as error:
            yield f"{path.name}: {type(error).__name__}"


def _check(path: Path) -> None:
    name = path.name
    content = path.read_bytes()
    if not content and name != "records.jsonl":
        raise ValueError("empty")
    if name.endswith(".nii.gz"):
        gzip.decompress(content)
    elif name.endswith((".png", ".gif")):
        with Image.open(path) as image:
            image.seek(getattr(image, "n_frames", 1) - 1)
            image.load()
    elif name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".jsonl"):
        for line in content.decode().splitlines():
            json.loads(line)
    elif name.endswith((".html", ".svg")):
        if not content.rstrip().endswith((b"</html>", b"</svg>")):
            raise ValueError("cut")
    elif name.endswith((".npz", ".ckpt")):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise ValueError("cut")
    elif name.endswith(".dcm"):
        import pydicom

        _ = pydicom.dcmread(path).pixel_array if name != "registration.dcm" else pydicom.dcmread(path).SOPClassUID
    elif name.endswith(".tfm"):
        import SimpleITK as sitk

        sitk.ReadTransform(str(path))
    elif name.endswith(".mp4"):
        from imageio_ffmpeg import count_frames_and_secs

        if not count_frames_and_secs(str(path))[0]:
            raise ValueError("no frames")
    elif name.endswith(".csv") and not content.endswith(b"\n"):
        raise ValueError("cut")
    elif name.endswith(".safetensors"):
        from safetensors.numpy import load

        load(content)
