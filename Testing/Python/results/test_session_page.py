"""The page of a session: it says what its state file says, shows the newest run or the one that was chosen, and never half a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from programs import BROWSER, probed

from DeepIterRegLib.results.session_page.page import RunRow, SessionState, write_page, write_state

LETTERS = {"left": "R", "right": "L", "top": "S", "bottom": "I"}


def row(number: int, state: str = "accepted", picture: int = 1, words: tuple[str, ...] = ()) -> RunRow:
    return RunRow(f"{number:02d}", "AP, LAO 1.0°, CRA 2.0°", state, words, 60.0 * number, picture, LETTERS)


def write_pictures_of(folder: Path, names: Sequence[str]) -> None:
    (folder / "pictures").mkdir(exist_ok=True)
    for n, name in enumerate(names):
        for ending, colour in (("", (90, 90, 90)), ("_overlay", (200, 10 * n, 0))):
            picture = Image.fromarray(np.full((30, 40, 3), colour, dtype=np.uint8))
            picture.save(folder / "pictures" / f"{name}{ending}.jpg")


def test_state_is_a_script_that_names_nobody_and_ends_nowhere(tmp_path: Path) -> None:
    write_state(tmp_path, SessionState("Waiting for runs.", (row(1, words=("</script><b>",)),)))
    text = (tmp_path / "state.js").read_text(encoding="utf-8")
    assert "<" not in text
    values = json.loads(text.removeprefix("session(").removesuffix(");\n"))
    assert values["runs"][0]["words"] == ["</script><b>"]
    assert values["status"] == "Waiting for runs."


def test_page_asks_for_nothing_but_files_beside_it(tmp_path: Path) -> None:
    write_page(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:", page)
    assert "Research use only" in page


PROBE = """
<script>
(async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const until = async (what) => { for (let n = 0; n < 500 && !what(); n++) await wait(20); };
  const at = (id) => document.getElementById(id);
  const shown = (id) => (at(id).getAttribute("src") || "").replace(/.*pictures./, "").replace(/[?].*/, "");
  const look = () => ({ title: document.querySelector(".result h2")?.textContent, plain: shown("plain"), overlay: shown("overlay"),
    hidden: getComputedStyle(at("overlay")).visibility === "hidden", covered: !at("cover").hidden,
    rows: [...document.querySelectorAll("#runs button")].map((b) => b.textContent), follow: !at("follow").hidden,
    status: at("status").textContent });
  const seen = {};
  await until(() => shown("overlay") === "02_overlay.jpg");
  seen.start = look();
  // From now on the test's own states arrive, as the file would bring them. Every pair of pictures that is shown is written down.
  STATES.length && (window.session = (values) => {});
  const pairs = [];
  const watch = new MutationObserver(() => pairs.push([shown("plain"), shown("overlay")]));
  for (const id of ["plain", "overlay"]) watch.observe(at(id), { attributes: true, attributeFilter: ["src"] });
  const bring = (values) => { state = values; show(); };
  bring(STATES[0]);
  await until(() => shown("overlay") === "03_overlay.jpg");
  seen.newest = look();
  document.querySelectorAll("#runs button")[2].click();
  await until(() => shown("overlay") === "01_overlay.jpg");
  seen.chosen = look();
  bring(STATES[1]);
  await wait(200);
  seen.kept = look();
  at("follow").click();
  await until(() => shown("overlay") === "04_overlay.jpg");
  seen.rejected = look();
  document.querySelector(".result button").click();
  seen.anyway = look();
  at("show").click();
  seen.off = look();
  seen.pairs = pairs;
  tellTest(JSON.stringify(seen));
})();
</script>
</body>"""


def in_browser(folder: Path, states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    probe = PROBE.replace("<script>", f"<script>const STATES = {json.dumps(states)};", 1)
    values: dict[str, Any] = json.loads(probed(folder / "index.html", probe, folder))
    return values


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_page_follows_the_newest_run_until_another_is_chosen(tmp_path: Path) -> None:
    from dataclasses import asdict

    write_page(tmp_path)
    write_pictures_of(tmp_path, ["01", "02", "03", "04"])
    refused = RunRow("", "A run of another patient", "refused", ("It is not shown.",))
    first = [refused, row(1), row(2, "look closely")]
    write_state(tmp_path, SessionState("Waiting for runs.", (*first, RunRow("03", "12 frames", "reading"))))
    later = [
        {"status": "Waiting.", "ended": False, "runs": [asdict(one) for one in rows]}
        for rows in ([*first, row(3)], [*first, row(3), row(4, "rejected")])
    ]
    seen = in_browser(tmp_path, later)

    assert seen["start"]["title"].startswith("Run 02")
    assert seen["start"]["plain"] == "02.jpg"
    assert seen["start"]["status"] == "Waiting for runs."
    assert len(seen["start"]["rows"]) == 4
    assert "reading" in seen["start"]["rows"][0]
    assert "It is not shown." in seen["start"]["rows"][-1]
    assert seen["newest"]["title"].startswith("Run 03")
    assert seen["chosen"]["title"].startswith("Run 01")
    assert seen["chosen"]["follow"]
    assert seen["kept"]["overlay"] == "01_overlay.jpg"  # a newer run does not take it away
    assert seen["rejected"]["covered"]
    assert seen["rejected"]["hidden"]
    assert not seen["anyway"]["hidden"]
    assert seen["off"]["hidden"]
    # Both pictures change before anything is drawn: never one run's vessels on another's image, and never none.
    assert [tuple(pair) for pair in seen["pairs"]] == [
        (f"{name}.jpg", f"{name}_overlay.jpg") for name in ("03", "01", "04")
    ]
