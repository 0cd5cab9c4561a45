"""A procedure followed by a job of the worker: the case from the CTA's node, and what the job tells the panel. No Qt."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from DeepIterRegLib.cases.case import Case
from DeepIterRegLib.cases.follow import FollowJob, follow
from DeepIterRegLib.cases.following import Told
from DeepIterRegLib.common.option import options_of
from DeepIterRegLib.common.options import Refinement, Search, Segmentation
from DeepIterRegLib.common.progress import Progress, ShouldStop
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration.session import Together
from DeepIterRegLib.results.report.images import vessel_projection
from DeepIterRegLib.results.session_page.page import RunRow, SessionState
from DeepIterRegSlicer import wording
from DeepIterRegSlicer.nodes import masks, volumes
from DeepIterRegSlicer.scene.prepare import ShownOutcome, prepareToShow

if TYPE_CHECKING:
    from DeepIterRegSlicer.logic import RegistrationOptions

Node = Any
_DIGITS = 6  # of the CTA's affine: a scene that was saved and reopened holds it to less than all
_MOVED_MM = 0.05  # a pose that changed by less looks the same
_LEVER_MM = 100.0  # at which a turn is compared: about a head's radius


@dataclass(frozen=True)
class NewRun:
    """A run that was registered, ready to be shown."""

    row: RunRow
    outcome: ShownOutcome


@dataclass(frozen=True)
class BetterPose:
    """Where all runs together see the head in an earlier one, and the vessels as its C-arm shows them there, (row, column), mm."""

    name: str
    together: Together
    projection: np.ndarray


News = SessionState | NewRun | BetterPose


def caseOf(cta: Node, options: RegistrationOptions) -> Case:
    """The CTA that is followed, with the masks chosen for it; called on the main thread.

    :raises InputError: a node that cannot be used.
    """
    source = volumes.ctaSource(cta)

    def rounded() -> Volume:
        whole = source()
        # A session is of one CTA, known again by its values.
        return replace(whole, affine=np.round(whole.affine, _DIGITS))

    given = {"cta_vessels": options.vessels, "cta_veins": options.veins}
    made: dict[str, Any] = {name: masks.maskSource(node, rounded) for name, node in given.items() if node is not None}
    chosen = {name: getattr(options, name) for name in options_of(Segmentation, Search, Refinement)}
    return Case(cta=rounded, angiogram=_noRun, **made, **{**chosen, "init": None})


def _noRun() -> Any:
    raise AssertionError("the runs of a session come from its folder")


def jobOf(
    job: FollowJob, folder: Path, done: Collection[str], news: queue.SimpleQueue[News]
) -> Callable[[Progress, ShouldStop], None]:
    """The job for `worker.Worker`; touches no node.

    :param folder: of the session.
    :param done: names of the runs that the scene shows already.
    :param news: gets what is to be shown.
    """

    def run(progress: Progress, shouldStop: ShouldStop) -> None:
        told = _Teller(news)
        with wording.panelWords():
            follow(job, folder, progress, told.tell, shouldStop, on_state=news.put, wants=lambda name: name not in done)

    return run


class _Teller:
    """Makes ready in the job's thread what the panel then only puts into nodes."""

    def __init__(self, news: queue.SimpleQueue[News]) -> None:
        self._news = news
        self._last: ShownOutcome | None = None
        self._places: dict[str, tuple[np.ndarray, CArm]] = {}

    def tell(self, told: Told) -> None:
        """What happened to a run."""
        if told.outcome is None:
            return
        found = told.outcome.registration
        worded = replace(found, warnings=wording.worded(found.warnings))
        self._last = prepareToShow(replace(told.outcome, registration=worded), self._last)
        self._news.put(NewRun(told.row, self._last))
        self._places[told.row.name] = (found.cta_to_carm, found.carm)
        for better in self._better(told.together, told.outcome.vessels):
            self._news.put(better)

    def _better(self, together: Mapping[str, Together], vessels: Volume) -> Iterator[BetterPose]:
        """Of the runs that are put elsewhere now than they are shown."""
        for name, one in together.items():
            known = self._places.get(name)
            if known is None or _differs(known, (one.cta_to_carm, one.carm)):
                self._places[name] = (one.cta_to_carm, one.carm)
                yield BetterPose(name, one, vessel_projection(vessels, one.carm, one.cta_to_carm))


def _differs(before: tuple[np.ndarray, CArm], now: tuple[np.ndarray, CArm]) -> bool:
    (pose, carm), (pose2, carm2) = before, now
    turn, shift = np.abs(pose2 - pose)[:3, :3].max() * _LEVER_MM, np.abs(pose2 - pose)[:3, 3].max()
    source = np.abs(np.subtract(carm2.source_mm, carm.source_mm)).max()
    return bool(max(turn, shift, source) > _MOVED_MM)
