"""What every step of one registration is given: the scene, the settings, and how to tell and to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.registration.scene import Scene, scene_znccs
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.steps import Step, expected


class Clock:
    """Wall time by part; `stop` gives the part since the last stop a name."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._parts: dict[str, float] = {}

    def stop(self, name: str) -> float:
        """Seconds since the last stop."""
        now = time.perf_counter()
        self._parts[name] = now - self._last
        self._last = now
        return self._parts[name]

    def seconds(self) -> dict[str, float]:
        """Of every part, and the total since the clock was made."""
        return {**self._parts, "total": time.perf_counter() - self._begin}


@dataclass(frozen=True)
class Context:
    """One registration under way.

    Attributes
    ----------
    scene
        What is registered.
    settings
    progress
        Told each step.
    should_stop
        Asked often; None: it runs to its end.
    clock
        Its seconds become `Registration.seconds`.
    beside
        Takes work that nobody waits for yet.
    """

    scene: Scene
    settings: RegistrationSettings
    progress: Progress = field(default_factory=Progress)
    should_stop: ShouldStop | None = None
    clock: Clock = field(default_factory=Clock)
    beside: Beside = field(default_factory=Beside)

    @property
    def saturation_mm(self) -> float:
        """Of vessels, in every score (see `vessels.alignment.normal_equations`)."""
        return self.settings.search.saturation_mm

    def scores(self, poses: np.ndarray) -> np.ndarray:
        """ZNCC (K,) of vessels and directions at poses (K, 4, 4), mean of the views, as it is reported."""
        return scene_znccs(self.scene, poses, self.saturation_mm, self.settings.seed)

    def score(self, cta_to_carm: np.ndarray) -> float:
        """`scores` at one pose (4, 4)."""
        return float(self.scores(cta_to_carm[None])[0])

    def expect(self, *steps: Step) -> None:
        """Tell that steps will be taken that were not, or not surely, expected."""
        self.progress.expect(expected(*steps, views=len(self.scene.views)))
