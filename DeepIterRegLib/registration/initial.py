"""Where the refinement starts: the radiological pose, a given one, search, network, skull, or the best of all."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.installation import broken_package
from DeepIterRegLib.common.messages import within
from DeepIterRegLib.geometry import mpe_mm
from DeepIterRegLib.registration.context import Context
from DeepIterRegLib.registration.network.proposals import network_poses
from DeepIterRegLib.registration.result import InitRecord, StageRecord
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.registration.vessels.search import Level, PoseCandidates, refine_poses, search

# Poses nearer to each other than this, on the detector, are one answer: the last levels choose among them.
_SAME_ANSWER_MM = 10.0
# Where the residue of moved bone is not clear by itself: the least of the vessels' score and of its own at a pose, and the most that
# the best pose elsewhere may have of their sum, for the search to be left out. Of 28 such development cases 12 have that, none wrong;
# wrong ones have up to 0.25 of the vessels, or 0.87 elsewhere.
_AGREED_VESSELS, _AGREED_SKULL, _AGREED_RUNNER_UP = 0.3, 0.12, 0.75
_REFINED = {
    Step.REFINE_SKULL: "Skull, refined",
    Step.REFINE_NETWORK: "Network, refined",
    Step.REFINE_EARLIER: "Earlier runs, refined",
}


def _no_poses() -> np.ndarray:
    return np.zeros((0, 4, 4))


@dataclass(frozen=True)
class InitialPoses:
    """Where the refinement starts, how that came about, and what a reader must know of it.

    Attributes
    ----------
    found
        Poses to refine, best first.
    init
        Whether they were taken, and why.
    refined
        Whether they stand where a search or its levels left them.
    records, warnings
        Of the steps that proposed them.
    skull_poses : (K, 4, 4)
        Where the skull alone fits best, if it was asked.
    """

    found: PoseCandidates
    init: InitRecord
    refined: bool = False
    records: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()
    skull_poses: np.ndarray = field(default_factory=_no_poses)


@dataclass(frozen=True)
class _Proposal:
    """What the skull or the network answers.

    `poses` (K, 4, 4), best first, and the best one's score; whether that `decides`, so that no search is needed; the step that
    then refines them, and what comes of that where it was needed to tell whether it decides.
    """

    poses: np.ndarray = field(default_factory=_no_poses)
    score: float = 0.0
    decides: bool = False
    step: Step = Step.SEARCH
    refined: tuple[PoseCandidates, StageRecord] | None = None
    records: tuple[StageRecord, ...] = ()
    warnings: tuple[str, ...] = ()


def initial_poses(context: Context, start: np.ndarray, given: np.ndarray | None) -> InitialPoses:
    """Propose poses and take them unless the radiological one, `start` (4, 4), scores higher (A eq. 12).

    `auto`: the skull, where it fits clearly; else the search and what there is of the skull together. Where the network or the
    skull cannot be asked, the search is, and a warning says why.

    Parameters
    ----------
    context
    start : (4, 4)
        The radiological pose, or what takes its place.
    given : (4, 4)
        The pose of init `file`, or with `earlier` those of earlier runs (K, 4, 4); with the others, where network and skull are
        asked. None for `start`.
    """
    init = context.settings.init
    at_start = _candidate(context, start)
    if init == "radiological":
        return _judged(context, at_start, at_start)
    if init == "file" and given is not None:
        return _judged(context, _candidate(context, given), at_start)
    if init == "earlier" and given is not None:
        return _near_earlier(context, given, at_start)
    asked = start if given is None else given
    skull = _ask_skull(context, asked)
    network = _ask_network(context, asked, at_start.score)
    records, warnings = (*skull.records, *network.records), (*skull.warnings, *network.warnings)
    # It was asked, and all that it answered is worse than the start (A eq. 12). A search was not asked for.
    if init == "network" and network.records and not len(network.poses):
        return InitialPoses(at_start, InitRecord(init, False, network.score, at_start.score), records=records)
    if skull.decides or network.decides:
        found, record = _refine_proposal(context, skull if skull.decides else network)
    else:
        found, record = _search(context, start, skull)
        records = (*records, *(() if skull.refined is None else skull.refined[1:]))
    judged = _judged(context, replace(found, score=context.score(found.cta_to_carm)), at_start)
    return replace(
        judged,
        refined=judged.init.accepted,
        records=(*records, record),
        warnings=warnings,
        skull_poses=skull.poses,
    )


def _near_earlier(context: Context, earlier: np.ndarray, at_start: PoseCandidates) -> InitialPoses:
    """Where the skull and the vessels come to rest from poses (K, 4, 4) of earlier runs: the head hardly moves between two."""
    skull = _skull_near(context, earlier)
    proposal = _Proposal(np.concatenate([earlier, skull.poses]), step=Step.REFINE_EARLIER)
    found, record = _refine_proposal(context, proposal)
    judged = _judged(context, replace(found, score=context.score(found.cta_to_carm)), at_start)
    return replace(judged, refined=judged.init.accepted, records=(*skull.records, record), skull_poses=skull.poses)


def _skull_near(context: Context, earlier: np.ndarray) -> _Proposal:
    """Where the skull fits the mask frames near poses (K, 4, 4); none where no run shows it."""
    begin, skull = time.perf_counter(), context.scene.skull
    try:
        match = skull.near(earlier, context.should_stop) if skull else None
    except InputError:  # a run that came subtracted
        match = None
    if match is None:
        return _Proposal()
    seconds = time.perf_counter() - begin
    record = StageRecord("Skull", "gradient correlation", match.score, match.scores, seconds, len(match.scores))
    return _Proposal(match.poses, match.score, records=(record,))


def refine_levels(
    context: Context, poses: np.ndarray, levels: tuple[Level, ...], step: Step | None = None
) -> PoseCandidates:
    """Second-order refinement of poses (K, 4, 4) on the vessels, reported as `step` if there is one."""
    return refine_poses(
        poses,
        context.scene.points,
        context.scene.views,
        levels,
        context.saturation_mm,
        seed=context.settings.seed,
        on_progress=context.progress.of(step) if step else None,
        should_stop=context.should_stop,
    )


def level_record(name: str, found: PoseCandidates, seconds: float, levels: tuple[Level, ...]) -> StageRecord:
    """Record of a search or refinement."""
    iterations = sum(level.iterations for level in levels)
    return StageRecord(name, "directed correlation", found.score, found.scores, seconds, iterations)


def _candidate(context: Context, cta_to_carm: np.ndarray) -> PoseCandidates:
    """A pose (4, 4) as it stands, with its score."""
    return PoseCandidates(cta_to_carm[None], context.score(cta_to_carm), ())


def _judged(context: Context, proposed: PoseCandidates, at_start: PoseCandidates) -> InitialPoses:
    """A proposal is accepted unless the start scores higher (A eq. 12)."""
    accepted = proposed.score >= at_start.score
    record = InitRecord(context.settings.init, accepted, proposed.score, at_start.score)
    return InitialPoses(proposed if accepted else at_start, record)


def _ask_skull(context: Context, start: np.ndarray) -> _Proposal:
    """Poses where the skull fits the mask frames, if init wants them; none, and a warning, where it cannot be seen.

    With `auto` the residue of moved bone stands in for mask frames that no run has.
    """
    init, skull = context.settings.init, context.scene.skull
    if init not in ("skull", "auto") or skull is None:
        return _Proposal()

    def tell(finer: bool, done: float) -> None:
        if finer and not done:  # it was not clear: only now is it known that this and the search will take their time
            context.expect(Step.SKULL_FINER, *((Step.SEARCH,) if init == "auto" else ()))
        context.progress(Step.SKULL_FINER if finer else Step.SKULL, done)

    begin = time.perf_counter()
    try:
        match = skull.find(start, context.should_stop, tell, residue=init == "auto")
    except InputError as error:
        context.expect(Step.SEARCH)
        if init == "auto":  # a run that came subtracted is nothing to warn of where nobody asked for the skull
            return _Proposal()
        *others, last = (within(problem, "The skull was not asked: ") for problem in error.problems)
        return _Proposal(warnings=(*others, within(last, after=" The search was used instead.")))
    seconds = time.perf_counter() - begin
    record = StageRecord("Skull", "gradient correlation", match.score, match.scores, seconds, len(match.scores))
    proposal = _Proposal(match.poses, match.score, init == "skull" or match.clear, Step.REFINE_SKULL, records=(record,))
    if match.by_residue and not match.clear and context.settings.skull_weight > 0:
        proposal = _with_vessels(context, proposal)
    if match.by_residue and not proposal.decides:  # of a mask frame that was told where the finer look began
        context.expect(Step.SEARCH)
    return proposal


def _with_vessels(context: Context, proposal: _Proposal) -> _Proposal:
    """The proposal of a skull that is not clear, refined on the vessels: it decides where both agree on one pose."""
    begin, levels = time.perf_counter(), context.settings.search.levels
    found = refine_levels(context, proposal.poses, levels)  # told as part of the step that proposed it
    record = level_record(_REFINED[proposal.step], found, time.perf_counter() - begin, levels)
    vessels, skull, away_mm = _together(context, found.poses)
    together = vessels + skull
    best = int(np.argmax(together))
    elsewhere = float(together[away_mm >= _SAME_ANSWER_MM].max(initial=0.0))
    agree = vessels[best] >= _AGREED_VESSELS and skull[best] >= _AGREED_SKULL
    decides = bool(agree and elsewhere <= _AGREED_RUNNER_UP * together[best])
    return replace(proposal, decides=decides, refined=(found, record))


def _ask_network(context: Context, start: np.ndarray, score_at_start: float) -> _Proposal:
    """The network's answers that are no worse than the start, if init wants them; none, and a warning, where it cannot be asked."""
    init, settings = context.settings.init, context.settings
    if init != "network":
        return _Proposal()
    begin = time.perf_counter()
    progress = context.progress.of(Step.NETWORK)
    try:
        poses = network_poses(context.scene, start, settings.network, settings.seed, progress)
    except Exception as error:
        broken = None if isinstance(error, InputError) else broken_package(error)
        if broken is None and not isinstance(error, InputError):
            raise
        problems = error.problems if isinstance(error, InputError) else (broken.sentence if broken else "",)
        context.expect(Step.SEARCH)
        return _Proposal(
            warnings=tuple(
                within(problem, "The network was not asked: ", " The search was used instead.") for problem in problems
            )
        )
    scores = context.scores(poses)
    best = float(scores.max())
    record = StageRecord(
        "Network",
        "ZNCC of the vessels",
        best,
        (float(scores[0]), best),
        time.perf_counter() - begin,
        len(poses),
    )
    poses = poses[np.argsort(-scores, kind="stable")][: int((scores >= score_at_start).sum())]
    progress(1.0)
    return _Proposal(poses, best, len(poses) > 0, Step.REFINE_NETWORK, records=(record,))


def _refine_proposal(context: Context, proposal: _Proposal) -> tuple[PoseCandidates, StageRecord]:
    """The levels of the search from the proposed poses alone."""
    context.progress(proposal.step, 0.0)
    if proposal.refined is not None:
        return proposal.refined
    begin, levels = time.perf_counter(), context.settings.search.levels
    found = refine_levels(context, proposal.poses, levels, proposal.step)
    return found, level_record(_REFINED[proposal.step], found, time.perf_counter() - begin, levels)


def _search(context: Context, start: np.ndarray, skull: _Proposal) -> tuple[PoseCandidates, StageRecord]:
    """Search about `start` (4, 4); where the skull has answers too, it has a say in the best."""
    begin, scene, settings = time.perf_counter(), context.scene, context.settings
    context.progress(Step.SEARCH, 0.0)
    found = search(
        scene.points,
        scene.views,
        start,
        scene.centre_cta_mm,
        settings.search,
        seed=settings.seed,
        on_progress=context.progress.of(Step.SEARCH),
        should_stop=context.should_stop,
    )
    # An unclear skull does not choose alone: its poses compete with those of the vessels.
    if len(skull.poses):
        refined = skull.refined[0] if skull.refined else refine_levels(context, skull.poses, settings.search.levels)
        found = _agreed(context, np.concatenate([found.poses, refined.poses]), found)
    return found, level_record("Search", found, time.perf_counter() - begin, settings.search.levels)


def _agreed(context: Context, poses: np.ndarray, found: PoseCandidates) -> PoseCandidates:
    """Of poses (K, 4, 4), those near the one on which vessels and skull together agree best.

    The scores are added as they are: where the skull fits nowhere it has little to say.
    """
    vessels, skull, away_mm = _together(context, poses)
    order = np.argsort(-(vessels + skull), kind="stable")
    return replace(found, poses=poses[order[away_mm[order] < _SAME_ANSWER_MM]])


def _together(context: Context, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (K,) of vessels and of skull at poses (K, 4, 4), and how far each is on the detector from that of the largest sum, mm."""
    scene = context.scene
    assert scene.skull is not None  # it gave poses
    vessels, skull = context.scores(poses), scene.skull.scores(poses)
    best = poses[np.argsort(-(vessels + skull), kind="stable")[0]]
    return vessels, skull, mpe_mm(scene.views[0].carm, poses, best, scene.centre_cta_mm)
