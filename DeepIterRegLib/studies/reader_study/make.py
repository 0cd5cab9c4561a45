"""Makes a study: what the author keeps, and a folder for each reader that never names a method."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from DeepIterRegLib import __version__
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import called_by
from DeepIterRegLib.common.tables import table_text
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.steps import Step, expected
from DeepIterRegLib.results.report import images
from DeepIterRegLib.studies.reader_study.cases import OVERLAY, PROJECTION, PatientCase
from DeepIterRegLib.studies.reader_study.pages import Pictures, write_reading_page
from DeepIterRegLib.studies.reader_study.ranks import SCALE
from DeepIterRegLib.studies.reader_study.reading import FORMAT, STUDY

AUTHOR, KEY, PAGE, IMAGES = "author", "key.csv", "read.html", "images"
KEY_COLUMNS = ("reader", "comparison", "patient", "left", "right")
# Of the pages: pictures as large as two side by side fill a screen, frames smaller, as there are many.
SIZE_PX, FRAME_SIZE_PX, MAX_FRAMES, QUALITY = 768, 512, 12, 75
_TOKEN_BYTES = 5  # 10 hexadecimal digits: no two of a study alike by chance

Entry = dict[str, str | None]  # of a comparison, in study.json: the files dsa, left, right


@dataclass(frozen=True)
class Drawn:
    """One comparison of one reader: what the key knows of it."""

    comparison: str
    case: int
    left: str
    right: str


def reader_names(readers: int) -> list[str]:
    """reader1, reader2, ..."""
    return [f"reader{number}" for number in range(1, readers + 1)]


def draw(cases: Sequence[PatientCase], seed: int, reader: int) -> list[Drawn]:
    """Every pair of every patient, sides and order at random, under names that say nothing; for the n-th reader, from 1.

    The same cases, seed and reader give the same comparisons.
    """
    # A stream for each reader: one more reader changes nothing for the others.
    rng = np.random.default_rng([seed, reader])
    pairs = [(number, pair) for number, case in enumerate(cases) for pair in case.pairs]
    tokens = _tokens(rng, len(pairs))
    drawn = []
    for token, index in zip(tokens, rng.permutation(len(pairs)), strict=True):
        number, pair = pairs[index]
        left, right = pair if rng.random() < 0.5 else pair[::-1]
        drawn.append(Drawn(token, number, left, right))
    return drawn


def write_study(
    folder: Path, cases: Sequence[PatientCase], readers: int, seed: int, progress: Progress
) -> dict[str, int]:
    """Write a study into an existing folder (see `atomic_output.output_folder`); reader to how many comparisons.

    `author/` holds the key and the seed. `reader1/`, ... each hold study.json (comparisons by meaningless names, in this
    reader's order), read.html (to be answered in a browser) and images/ (to be answered in Slicer).

    Raises
    ------
    InputError
        A DSA that cannot be read, or is not the one that was registered.
    """
    names = reader_names(readers)
    drawn = {name: draw(cases, seed, number) for number, name in enumerate(names, 1)}
    rngs = {name: np.random.default_rng([seed, number, 1]) for number, name in enumerate(names, 1)}
    pictures: dict[str, Pictures] = {name: Pictures() for name in names}
    listed: dict[str, dict[str, Entry]] = {name: {} for name in names}
    for name in names:
        (folder / name / IMAGES).mkdir(parents=True)
    problems: list[str] = []
    progress.expect(expected(Step.DRAW_PICTURES))
    for number, case in enumerate(cases):
        progress(Step.DRAW_PICTURES, number / len(cases))
        try:
            shown = _Shown(case)
        except InputError as error:
            problems += [within(problem, f"Patient {called_by(case.patient)}: ") for problem in error.problems]
            continue
        for name in names:
            mine = [d for d in drawn[name] if d.case == number]
            listed[name] |= shown.write(folder / name / IMAGES, mine, rngs[name], pictures[name])
    if problems:
        raise InputError(problems)
    progress(Step.DRAW_PICTURES, 1.0)
    for name in names:
        comparisons = [{"id": d.comparison, **listed[name][d.comparison]} for d in drawn[name]]
        token = _tokens(rngs[name], 1)[0]
        study = {"format": FORMAT, "study": token, "reader": name, "scale": SCALE, "comparisons": comparisons}
        (folder / name / STUDY).write_text(json.dumps(study, indent=2) + "\n", encoding="utf-8")
        write_reading_page(folder / name / PAGE, token, name, [d.comparison for d in drawn[name]], pictures[name])
    # Who is who, and with the seed which side is which: for the author's eyes, also on a computer that many use.
    (folder / AUTHOR).mkdir(mode=0o700)
    key = ((name, d.comparison, cases[d.case].patient, d.left, d.right) for name, mine in drawn.items() for d in mine)
    _write_private(folder / AUTHOR / KEY, table_text(KEY_COLUMNS, key))
    about = {"format": FORMAT, "seed": seed, "readers": names, "patients": len(cases), "version": __version__}
    _write_private(folder / AUTHOR / STUDY, json.dumps(about, indent=2) + "\n")
    return {name: len(mine) for name, mine in drawn.items()}


def _write_private(path: Path, text: str) -> None:
    """A file that its owner alone can read, from its first byte on."""
    with open(path, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
        file.write(text)


class _Shown:
    """What is shown of one patient, read once for all readers."""

    def __init__(self, case: PatientCase) -> None:
        self._case, self._carm = case, case.carm()
        if case.dsa is None:
            self._overlays = {method: _picture(folder / OVERLAY) for method, folder in case.folders.items()}
            return
        self._projections = {m: load_volume(f / PROJECTION).voxels[0] for m, f in case.folders.items()}
        self._opacities = {
            method: images.png_url((255 * images.shrunk(images.opacity(p), SIZE_PX)).astype(np.uint8))
            for method, p in self._projections.items()
        }
        self._read_dsa(case.dsa)

    def _read_dsa(self, path: Path) -> None:
        carm = self._carm
        angiogram = read_angiogram(path, GeometryOptions(projection_matrix=carm.projection_matrix))
        if angiogram.frames.shape[1:] != (carm.rows, carm.columns):
            raise InputError(
                f"The dsa has {angiogram.frames.shape[1]} x {angiogram.frames.shape[2]} px, the registered one had "
                f"{carm.rows} x {carm.columns}: give the one that was registered."
            )
        window = images.window_of(angiogram)
        shown = np.unique(np.linspace(0, len(angiogram.frames) - 1, MAX_FRAMES).round().astype(int))
        pictures = [angiogram.minip(), *(angiogram.frames[t] for t in shown)]
        stood = detector_image(pictures[0], carm)
        self._run = Volume(np.stack([images.to_grey(picture, window) for picture in pictures]), stood.affine)
        self._minip_url, *self._frame_urls = [
            images.jpeg_url(images.to_grey(images.shrunk(picture, size_px), window), QUALITY)
            for picture, size_px in zip(pictures, [SIZE_PX] + [FRAME_SIZE_PX] * len(shown), strict=True)
        ]

    def write(
        self, folder: Path, drawn: Sequence[Drawn], rng: np.random.Generator, pictures: Pictures
    ) -> dict[str, Entry]:
        """Write a reader's images; comparison to the files shown."""
        if self._case.dsa is None:
            return {d.comparison: self._write_overlays(folder, d, pictures) for d in drawn}
        dsa, *tokens = _tokens(rng, 1 + len(self._projections))
        save_volume(self._run, folder / f"{dsa}.nii.gz")
        pictures.add_run(dsa, self._minip_url, self._frame_urls)
        token_of = dict(zip(self._projections, rng.permutation(tokens), strict=True))
        for method, token in token_of.items():
            save_volume(detector_image(self._projections[method], self._carm), folder / f"{token}.nii.gz")
            pictures.add_projection(token, self._opacities[method])
        for d in drawn:
            pictures.add_comparison(d.comparison, token_of[d.left], token_of[d.right], dsa)
        return {d.comparison: _files(token_of, d, dsa) for d in drawn}

    def _write_overlays(self, folder: Path, d: Drawn, pictures: Pictures) -> Entry:
        files: Entry = {"dsa": None}
        for side, method in (("left", d.left), ("right", d.right)):
            token = f"{d.comparison}-{side}"
            Image.fromarray(self._overlays[method]).save(folder / f"{token}.png", format="PNG")
            pictures.add_projection(token, images.jpeg_url(self._overlays[method], QUALITY))
            files[side] = f"{IMAGES}/{token}.png"
        pictures.add_comparison(d.comparison, f"{d.comparison}-left", f"{d.comparison}-right", None)
        return files


def _files(token_of: Mapping[str, str], d: Drawn, dsa: str) -> Entry:
    named = {"dsa": dsa, "left": token_of[d.left], "right": token_of[d.right]}
    return {what: f"{IMAGES}/{token}.nii.gz" for what, token in named.items()}


def _picture(path: Path) -> np.ndarray:
    """Pixels alone (row, column, 3) uint8: what a file says beside them stays behind."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _tokens(rng: np.random.Generator, count: int) -> list[str]:
    """Different names that say nothing: 10 hexadecimal digits."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[rng.bytes(_TOKEN_BYTES).hex()] = None
    return list(found)
