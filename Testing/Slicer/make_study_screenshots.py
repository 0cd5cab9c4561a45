"""Pictures of the reader study for the README: the page in Chromium, the panel's section with its two slice views.

As in make_screenshots.py the panel is drawn with stand-ins for ctk's and Slicer's own widgets, the slice views by MRML's slice logic.

    deepiterreg study make --cases table.csv --out study
    python Testing/Slicer/make_study_screenshots.py study/reader1 [--out Resources/Screenshots]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from make_screenshots import ROOT, fewerColours, save, sideBySide, sliceView

import standin  # isort: skip  # make_screenshots has put it on the path

import qt  # type: ignore[import-not-found]
import slicer

import panels

VIEW_PX, PANEL_PX, PAGE_PX = (640, 640), 400, (1400, 800)
ANSWERED = 3  # comparisons before the one in the picture

# Answers the first comparisons as a person does, so that the picture has a progress.
ANSWERS = """<script>(async () => {
  const ids = JSON.parse(document.getElementById("data").textContent).comparisons.map((c) => c.id);
  for (let i = 0; i < %d; i++) {
    while (document.body.dataset.shown !== ids[i]) await new Promise((done) => setTimeout(done, 20));
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "3", bubbles: true }));
  }
})();</script></body>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", type=Path, help="a reader's folder of a study; its own answers are not touched")
    parser.add_argument("--out", type=Path, default=ROOT / "Resources" / "Screenshots")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        shutil.copytree(arguments.reader, f"{work}/reader", ignore=shutil.ignore_patterns("ranks.csv"))
        save(fewerColours(page(Path(work))), arguments.out / "study_page.png")
        save(fewerColours(panel(Path(work) / "reader")), arguments.out / "study_panel.png")


def page(work: Path) -> Image.Image:
    """The page as Chromium shows it."""
    text = (work / "reader" / "read.html").read_text(encoding="utf-8").replace("</body>", ANSWERS % ANSWERED)
    (work / "page.html").write_text(text, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --virtual-time-budget=600000"
    size, picture = ",".join(map(str, PAGE_PX)), work / "page.png"
    command = ["chromium", *flags.split(), f"--user-data-dir={work / 'profile'}", f"--window-size={size}"]
    subprocess.run([*command, f"--screenshot={picture}", f"file://{work / 'page.html'}"], check=True)
    return Image.open(picture).convert("RGB").copy()


def panel(folder: Path) -> Image.Image:
    """Both slice views and the section."""
    for view in ("Red", "Yellow"):
        for node in (slicer.vtkMRMLSliceNode(), slicer.vtkMRMLSliceCompositeNode()):
            node.SetSingletonTag(view)
            node.SetLayoutName(view)
            added = slicer.mrmlScene.AddNode(node)
            if added.IsA("vtkMRMLSliceNode"):
                added.SetDimensions(*VIEW_PX, 1)
    ui = slicer.util.childWidgetVariables(panels.opened().representation)
    ui.studyCollapsibleButton.collapsed = False
    standin.answers["getExistingDirectory"] = str(folder)
    ui.openStudyButton.click()
    for _ in range(ANSWERED):
        ui.rank3Button.click()
    return sideBySide([grab(ui.studyCollapsibleButton), sliceView("Red"), sliceView("Yellow")])


def grab(widget: Any) -> Image.Image:
    """The section, as high as the views."""
    widget.setParent(None)
    widget.show()
    widget.resize(PANEL_PX, widget.sizeHint().height() if callable(widget.sizeHint) else widget.sizeHint.height())
    standin.processEvents(0.1)
    pixmap = qt.QPixmap(PANEL_PX, widget.height)
    widget.render(pixmap)
    with tempfile.TemporaryDirectory() as folder:
        pixmap.save(f"{folder}/panel.png")
        section = Image.open(f"{folder}/panel.png").convert("RGB")
        whole = Image.new("RGB", (PANEL_PX, VIEW_PX[1]), section.getpixel((2, section.height - 2)))
        whole.paste(section)
        return whole


if __name__ == "__main__":
    main()
