"""Progress of real registrations: from every start, with one and two views, the bar only goes on, in order, and ends full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_initial import fixed_answer

from DeepIterRegLib.common.progress import Progress, ProgressEvent
from DeepIterRegLib.geometry import pose
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.registration import scene
from DeepIterRegLib.registration.confidence import features
from DeepIterRegLib.registration.network.proposals import NetworkInit
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.settings import RegistrationSettings
from DeepIterRegLib.registration.skull import Skull
from DeepIterRegLib.registration.skull.settings import SkullLevel, SkullSettings
from DeepIterRegLib.registration.steps import Step
from DeepIterRegLib.registration.vessels.search import Level, SearchSettings
from DeepIterRegLib.segmentation.dsa import DsaMasks, segment_dsa

AFTER_THE_SKULL = (Step.REFINE, Step.REFINE_WITH_SKULL, Step.CONFIDENCE)
# Init, what is seen in the mask frames, and the steps that the registration takes after it has checked its inputs.
STARTS = {
    "radiological": ("radiological", "skull", (Step.REFINE_COARSE, Step.REFINE, Step.CONFIDENCE)),
    "file": ("file", "skull", (Step.REFINE_COARSE, Step.REFINE, Step.CONFIDENCE)),
    "search": ("search", "skull", (Step.SEARCH, Step.REFINE, Step.CONFIDENCE)),
    "network": ("network", "skull", (Step.NETWORK, Step.REFINE_NETWORK, Step.REFINE, Step.CONFIDENCE)),
    "skull": ("skull", "skull", (Step.SKULL, Step.REFINE_SKULL, *AFTER_THE_SKULL)),
    # Where noise leads is refused for the start, which is the truth there.
    "skull, not clear": (
        "skull",
        "noise",
        (Step.SKULL, Step.SKULL_FINER, Step.REFINE_SKULL, Step.REFINE_COARSE, *AFTER_THE_SKULL),
    ),
    "skull, not shown": ("skull", "nothing", (Step.SEARCH, Step.REFINE, Step.CONFIDENCE)),
    "auto": ("auto", "skull", (Step.SKULL, Step.REFINE_SKULL, *AFTER_THE_SKULL)),
    "auto, not clear": ("auto", "noise", (Step.SKULL, Step.SKULL_FINER, Step.SEARCH, *AFTER_THE_SKULL)),
    "auto, not shown": ("auto", "nothing", (Step.SKULL, Step.SEARCH, *AFTER_THE_SKULL)),
}


@dataclass(frozen=True)
class Inputs:
    cta: Volume
    vessels: Volume
    runs: tuple[Angiogram, ...]
    masks: tuple[DsaMasks, ...]
    truth: np.ndarray

    def start(self, init: str, shown: str) -> np.ndarray | None:
        """The truth for a file and where noise is refused for it; near it where the search must beat it; else the radiological pose."""
        if init == "file" or (init, shown) == ("skull", "noise"):
            return self.truth
        if (init, shown) == ("auto", "noise"):  # the small box about the radiological pose does not hold the truth
            turn = pose.euler_deg_to_rotation(np.array([5.0, -5.0, 5.0]))
            return np.asarray(pose.offset_about(self.truth, self.cta.centre_mm, turn, np.array([6.0, 6.0, -6.0])))
        return None


@pytest.fixture(scope="module")
def inputs(patient_folder: Path) -> Inputs:
    runs = tuple(read_angiogram(patient_folder / name) for name in ("dsa.dcm", "dsa2.dcm"))
    arteries, veins = (load_volume(patient_folder / f"{name}.nii.gz") for name in ("arteries", "veins"))
    return Inputs(
        load_volume(patient_folder / "cta.nii.gz"),
        arteries.with_voxels((arteries.voxels != 0) | (veins.voxels != 0)),
        runs,
        tuple(segment_dsa(run) for run in runs),
        read_pose(patient_folder / "truth.tfm"),
    )


@pytest.fixture(autouse=True)
def _small_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The skull's search, and the confidence's for rivals, in boxes as small as the vessels' here: steps are looked at, not poses."""
    levels = tuple(replace(level, keep=1) for level in SkullSettings().levels)
    few = SkullSettings(rotation_deg=10.0, candidates=8, levels=levels)
    monkeypatch.setattr(scene, "Skull", partial(Skull, settings=few))
    monkeypatch.setattr(features, "_RIVALS", replace(features._RIVALS, rotation_deg=10.0))


def small(settings: RegistrationSettings) -> RegistrationSettings:
    box = SearchSettings(rotation_deg=10, translation_mm=10, levels=(Level(64, 2000, 0.9, 4, 4),))
    network = replace(settings.network, starts=2, rounds=1)
    return replace(settings, search=box, network=network, levels=(Level(128, 8000, 1.0, 4, 1),), refine_geometry="off")


def with_mask_frames(runs: Sequence[Angiogram], shown: str) -> list[Angiogram]:
    """The runs; or with noise where the first one's mask frame shows the skull, and no other; or with no mask frame."""
    if shown == "skull":
        return list(runs)
    first, *others = (replace(run, unsubtracted=None) for run in runs)
    if shown == "noise":
        frame = runs[0].unsubtracted
        assert frame is not None
        first = replace(first, unsubtracted=np.random.default_rng(0).normal(size=frame.shape).astype(frame.dtype))
    return [first, *others]


def check(events: Sequence[ProgressEvent]) -> tuple[Step, ...]:
    """The steps in the order in which they came. The bar never goes back, each step has a part of it, and at the end it is full."""
    overall = [event.overall for event in events]
    assert overall == sorted(overall)
    assert overall[0] == 0.0
    assert overall[-1] == 1.0
    begins = {event.step: event.overall for event in reversed(events)}
    steps = list(dict.fromkeys(event.step for event in events))
    assert [event.step for event in events] == sorted((event.step for event in events), key=list(Step).index)
    for step, after in pairwise(steps):
        assert begins[after] > begins[step], step
    assert begins[steps[-1]] < 1.0
    return tuple(steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("start", STARTS)
def test_every_start(start: str, views: int, inputs: Inputs) -> None:
    init, shown, wanted = STARTS[start]
    events: list[ProgressEvent] = []
    registration = register(
        inputs.cta,
        with_mask_frames(inputs.runs[:views], shown),
        small(RegistrationSettings.preset("default", init=init)),  # type: ignore[arg-type]
        cta_mask=inputs.vessels,
        dsa_masks=inputs.masks[:views],
        initial_pose=inputs.start(init, shown),
        on_progress=Progress(events.append),
    )
    # The head is followed through the frames where a mask frame shows its skull.
    followed = () if shown == "nothing" else (Step.FRAMES,)
    if (
        start == "auto, not shown" and views == 1
    ):  # what moved bone left and the vessels agree on one pose: nothing is searched
        wanted = tuple(Step.REFINE_SKULL if step is Step.SEARCH else step for step in wanted)
    assert check(events) == (Step.CHECK_INPUTS, *wanted, *followed)
    # The residue has a say in the confidence where it had one in the pose.
    assert registration.confidence is not None
    assert ("residue_score" in registration.confidence.features) == (start == "auto, not shown")


@pytest.mark.parametrize("views", [1, 2])
def test_the_papers_stages(views: int, inputs: Inputs) -> None:
    paper = RegistrationSettings.preset("paper")
    stages = tuple(replace(s, rows=32, optimisation=replace(s.optimisation, iterations=6)) for s in paper.stages)
    events: list[ProgressEvent] = []
    register(
        inputs.cta,
        inputs.runs[:views],
        replace(paper, init="file", stages=stages),
        cta_mask=inputs.vessels,
        dsa_masks=inputs.masks[:views],
        initial_pose=inputs.truth,
        on_progress=Progress(events.append),
    )
    stages_of_the_paper = (Step.MASK_STAGE, Step.MINIP_STAGE)
    assert check(events) == (Step.CHECK_INPUTS, *stages_of_the_paper, Step.CONFIDENCE, Step.FRAMES)
    reported = [event.done for event in events if event.step is Step.MASK_STAGE]
    assert reported == pytest.approx(np.arange(7) / 6)


def test_views_that_are_corrected_and_masks_that_are_made(inputs: Inputs) -> None:
    settings = replace(small(RegistrationSettings.preset("default", init="file")), refine_geometry="on")
    events: list[ProgressEvent] = []
    register(inputs.cta, inputs.runs, settings, initial_pose=inputs.truth, on_progress=Progress(events.append))
    segmented = (Step.SEGMENT_CTA, Step.SEGMENT_DSA, Step.CHECK_INPUTS)
    refined = (Step.REFINE_COARSE, Step.REFINE, Step.CORRECT_VIEWS)
    assert check(events) == (*segmented, *refined, Step.CONFIDENCE, Step.FRAMES)


def test_views_that_contradict_each_other_are_asked_alone(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second header that says the view is the first's: no pose explains both."""
    levels = (SkullLevel(96, 4.0, 1.0, 4, 4), SkullLevel(96, 4.0, 1.0, 4, 1))
    quick = SkullSettings(rotation_deg=10.0, rotation_step_deg=20.0, rows=64, candidates=8, levels=levels)
    monkeypatch.setattr(scene, "Skull", partial(Skull, settings=quick))
    first, second = inputs.runs
    wrong = replace(second, carm=first.carm.resampled(second.carm.rows, second.carm.columns))
    settings = replace(small(RegistrationSettings.preset("default", init="skull")), refine_geometry="auto")
    events: list[ProgressEvent] = []
    registration = register(
        inputs.cta,
        (first, wrong),
        settings,
        cta_mask=inputs.vessels,
        dsa_masks=inputs.masks,
        on_progress=Progress(events.append),
    )
    assert check(events)[-4:] == (Step.CORRECT_VIEWS, Step.CONFIDENCE, Step.EACH_VIEW, Step.FRAMES)
    assert registration.confidence is not None
    assert registration.confidence.state == "rejected"


def test_a_network_whose_answers_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    """It is only then known that neither its answers nor a search are refined."""
    weights = fixed_answer(tmp_path / "away.safetensors", 10, 10)
    settings = small(RegistrationSettings(init="network", network=NetworkInit(weights, starts=2, rounds=1)))
    events: list[ProgressEvent] = []
    register(
        inputs.cta,
        inputs.runs[0],
        settings,
        cta_mask=inputs.vessels,
        dsa_masks=inputs.masks[0],
        initial_pose=inputs.truth,
        on_progress=Progress(events.append),
    )
    refined = (Step.REFINE_COARSE, Step.REFINE, Step.CONFIDENCE, Step.FRAMES)
    assert check(events) == (Step.CHECK_INPUTS, Step.NETWORK, *refined)
