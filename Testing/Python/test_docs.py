"""README and documentation: every link leads somewhere, every name exists, and what they tell people to type works.

Commands that take minutes are run by `Testing/Benchmarks/docs.py`, which also says what a page's blocks are told by.
"""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import DeepIterRegLib
from DeepIterRegLib.cases.files import RegisterJob, register_files
from DeepIterRegLib.cli import app
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.results.export.files import SUFFIXES
from DeepIterRegLib.results.report import REGISTRATION_FILES, registration_files
from DeepIterRegLib.results.report.outputs import MAX_VIEWS, files_of_frames

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Benchmarks"))

import docs
from docs import PAGES, ROOT, Block, blocks_of

DOCS = ROOT / "Resources" / "Docs"
PROSE = sorted(
    {
        *PAGES,
        *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "Resources").rglob("*.md"),
        *(ROOT / "Testing" / "Benchmarks").rglob("*.md"),
    }
)
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# Pixels of pages whose patient has 1024 x 1024 px; the tests' has 256 x 256.
IN_SMALL = {"450,700": "120,120"}
# Folder that a registration wrote for an earlier page, by its words: seconds for each that two pages show.
ALREADY_RUN: dict[tuple[str, ...], Path] = {}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def without_code(text: str) -> str:
    """Prose alone: code has brackets that are no links."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```[ \t]*$", "", text, flags=re.M | re.S))


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```[ \t]*$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = sum(bool(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", anchor)) for anchor in found)
        found.add(f"{slug}-{count}" if count else slug)
    return found


# -- links and names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            wrong.append(f"{target}: there is no such file")
        elif anchor and anchor not in anchors_of(file):
            wrong.append(f"{target}: there is no such heading")
    assert wrong == []


def test_every_page_is_linked_from_readme_and_index() -> None:
    for page in (ROOT / "README.md", DOCS / "README.md"):
        text = page.read_text(encoding="utf-8")
        folder = "Resources/Docs/" if page.parent == ROOT else ""
        missing = [other.name for other in DOCS.glob("*.md") if f"({folder}{other.name})" not in text and other != page]
        assert missing == [], name_of(page)


def test_citation_is_of_this_version_and_names_the_papers_of_readme() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.M) == [DeepIterRegLib.__version__]
    dois = re.findall(r"doi: (\S+)", citation)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(dois) == 2
    assert all(f"(https://doi.org/{doi})" in readme for doi in dois)


def test_readme_is_a_first_screen() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 9000


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_of_the_library_exist(page: Path) -> None:
    """`DeepIterRegLib.room.name`, as code or prose writes it."""
    wrong = []
    for name in set(re.findall(r"\bDeepIterRegLib(?:\.\w+)+", page.read_text(encoding="utf-8"))):
        module, parts = "DeepIterRegLib", name.split(".")[1:]
        found: Any = importlib.import_module(module)
        for part in parts:
            module = f"{module}.{part}"
            if not hasattr(found, part):
                try:
                    importlib.import_module(module)
                except ModuleNotFoundError:
                    wrong.append(name)
                    break
            found = getattr(found, part)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_of_the_repository_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.])((?:DeepIterReg|DeepIterRegLib|Resources|Testing)/[\w./-]*\w)", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_sections_of_the_method_that_code_cites_exist() -> None:
    text = (DOCS / "method.md").read_text(encoding="utf-8")
    sections = {int(number) for number in re.findall(r"^## (\d+)\. ", text, re.M)}
    cited = []
    for path in (*(ROOT / "DeepIterRegLib").rglob("*.py"), *(ROOT / "Testing").rglob("*.py")):
        if path == Path(__file__):
            continue
        for found in re.finditer(
            r"[\w/]*method\.md[^,)\s]*(?:,\s+(?:section\s+)?(\d+))?", path.read_text(encoding="utf-8")
        ):
            assert found[0].startswith("Resources/Docs/method.md, section "), f"{path.name}: {found[0]}"
            cited.append(int(found[1]))
    assert cited
    assert set(cited) <= sections


def test_rooms_of_the_library_are_described() -> None:
    text = (DOCS / "library.md").read_text(encoding="utf-8")
    rooms = re.findall(r"^\| \d \| `(\w+)` \|", text, re.M)
    there = {path.name for path in (ROOT / "DeepIterRegLib").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert sorted(rooms) == sorted(there)
    names = {
        f"{room}.{name}"
        for room in there
        for name in re.findall(rf"\b{room}\.(\w+(?:\.\w+)*)", text)
        if name.split(".")[0] != "md"
    }
    assert names
    for name in names:
        *modules, last = name.split(".")
        path = ROOT / "DeepIterRegLib" / Path(*modules)
        inside = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        assert (
            (path / last).exists() or (path / f"{last}.py").exists() or re.search(rf"\b{last}\b", inside.read_text())
        ), name


# -- commands ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page.name}:{block.line}")
def test_each_block_says_what_it_is(block: Block) -> None:
    assert block.language in ("sh", "python", "csv", "toml", "text"), "a fence without a language is run by nobody"
    if block.when in ("slow", "elsewhere"):
        assert block.reason, "what is not run says why"
    if block.language == "sh" and block.when != "elsewhere":
        programs = {words[0] for words in block.commands()}
        assert programs <= {"deepiterreg", "python", *docs.NOT_RUN}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sh"], ids=lambda b: f"{b.page.name}:{b.line}")
def test_commands_and_options_exist(block: Block) -> None:
    """Of blocks that are not run here, too."""
    for words in block.commands():
        if words[0] != "deepiterreg":
            continue
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, words


def test_exports_of_every_kind_are_shown() -> None:
    shown = {
        words[words.index("--to") + 1]
        for block in blocks_of(DOCS / "export.md")
        if block.language == "sh"
        for words in block.commands()
    }
    assert shown == {"dicom", *SUFFIXES}


@pytest.fixture(scope="module")
def result(patient_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `register` writes of the first run, started at the truth."""
    folder = tmp_path_factory.mktemp("result")
    job = RegisterJob(
        cta=patient_folder / "cta.nii.gz", dsa=patient_folder / "dsa.dcm", init=str(patient_folder / "truth.tfm")
    )
    register_files(job, folder, Progress())
    return folder


QUICK = [page for page in PAGES if any(b.language in ("sh", "python") for b in docs.to_run(page, slow=False))]


@pytest.mark.parametrize("page", QUICK, ids=name_of)
def test_commands_run_as_printed(
    page: Path, patient_folder: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order of the page, in one folder."""
    blocks = list(docs.to_run(page, slow=False))
    docs.provide(tmp_path, patient_folder, result, blocks)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}  # a page's Python goes on from block to block
    written: list[str] = []
    for block in blocks:
        if block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
        else:
            for words in block.commands():
                if words[0] not in docs.NOT_RUN:
                    docs.people_before(words, tmp_path)
                    out = next((words[n + 1] for n, word in enumerate(words) if word in ("--out", "-o")), "")
                    written += [out] * bool(out)
                    earlier = ALREADY_RUN.get(tuple(words))
                    if earlier is not None:
                        shutil.copytree(earlier, tmp_path / out)
                        continue
                    run([IN_SMALL.get(word, word) for word in words], monkeypatch)
                    if out and words[1] == "register":
                        ALREADY_RUN[tuple(words)] = tmp_path / out
    assert [name for name in written if not (tmp_path / name).exists()] == []
    if page.name in MORE:
        MORE[page.name](tmp_path)


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command, in this process."""
    if words[0] == "python":
        with monkeypatch.context() as typed:
            typed.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
        return
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, (words, done.output)


def look_at_python(folder: Path) -> None:
    """The library's example writes what the command writes; the script's picture shows something."""
    written = {path.name for path in (folder / "result").iterdir()}
    assert written - set(files_of_frames(1)) == set(REGISTRATION_FILES)
    with Image.open(folder / "look.png") as picture:
        assert min(picture.size) >= 800
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 1:].max(axis=-1)) > 60
    assert red[: len(red) // 2].mean() > 0.01, "vessels in red over the run"


def look_at_two_views(folder: Path) -> None:
    written = {path.name for path in (folder / "two").iterdir()}
    assert written - set(files_of_frames(2)) == set(registration_files(2))
    assert f"Up to {MAX_VIEWS} DSAs" in (DOCS / "two_views.md").read_text(encoding="utf-8")
    views = json.loads((folder / "two" / "registration.json").read_text(encoding="utf-8"))["views"]
    assert [len(view["axis_error_mm"]) for view in views] == [3, 3]


def look_at_readers(folder: Path) -> None:
    assert (folder / "study" / "ranks.csv").read_text(encoding="utf-8").count("\n") == 1 + 2, "a pair, two readers"


MORE = {
    "python.md": look_at_python,
    "two_views.md": look_at_two_views,
    "reader_study.md": look_at_readers,
}
