"""A session that is followed by a test: a folder that runs arrive in, and what is told of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom

from DeepIterRegLib.cases.follow import FollowJob, follow
from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.cases.session_folder import KeptRun
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.results.session_page.page import SessionState

IDLE_S = 1.0


class Watched:
    """A folder that runs arrive in, and what was told of them."""

    def __init__(self, folder: Path, patient: Path) -> None:
        self.folder, self.patient = folder, patient
        self.incoming, self.out = folder / "incoming", folder / "session"
        self.incoming.mkdir(parents=True)
        self.told: list[Told] = []
        self.statuses: list[str] = []

    def arrives(self, name: str, as_name: str = "", **elements: str) -> None:
        """A run of the patient, with other values of elements."""
        target = self.incoming / (as_name or name)
        if not elements:
            shutil.copy(self.patient / name, target)
            return
        dataset = pydicom.dcmread(self.patient / name)
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(target)

    def followed(self, **more: Any) -> list[KeptRun]:
        job = FollowJob(
            self.patient / "cta.nii.gz", self.incoming, cta_mask=self.patient / "vessels.nii.gz", device="cpu"
        )
        self.told, self.statuses = [], []
        seen = more.pop("on_state", lambda state: None)

        def on_state(state: SessionState) -> None:
            self.statuses.append(state.status)
            seen(state)

        return follow(job, self.out, Progress(), self.told.append, lambda: False, IDLE_S, on_state=on_state, **more)

    @property
    def state(self) -> dict[str, Any]:
        """What the page is told."""
        text = (self.out / "state.js").read_text()
        found: dict[str, Any] = json.loads(text.removeprefix("session(").removesuffix(");\n"))
        return found
