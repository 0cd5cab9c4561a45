"""What the module does, for the panel, the batch script and the Python console. No Qt; no view is needed.

From the console::

    from DeepIterReg import DeepIterRegLogic
    logic = DeepIterRegLogic()
    nodes = logic.register(slicer.util.getNode("CTA"), logic.loadAngiogram("/data/run.dcm"))
"""

from __future__ import annotations

import contextlib
import enum
import gc
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from DeepIterRegLib.common.option import options_of
from DeepIterRegLib.common.options import Contrast, GeometryOptions, Refinement, Search, Segmentation
from DeepIterRegLib.common.user_input import frame_numbers
from DeepIterRegSlicer import console, loggers, wording

# The library's third-party packages may not be installed yet: they are imported where they are used.
if TYPE_CHECKING:
    from DeepIterRegLib.cases.case import Case, Outcome
    from DeepIterRegLib.common.progress import Progress, ShouldStop
    from DeepIterRegLib.images.angiogram import Angiogram
    from DeepIterRegSlicer.nodes.angiograms import CArmValue
    from DeepIterRegSlicer.scene.prepare import ShownOutcome
    from DeepIterRegSlicer.scene.results import RegistrationNodes

    # What the library knows, and what comes from nodes.
    Node = Any  # a vtkMRMLNode


@dataclass(frozen=True, kw_only=True)
class RegistrationOptions(Segmentation, Search, Refinement):
    """All that a person chooses besides CTA and DSA; options that are no nodes have the names of the command line and the tables.

    Attributes
    ----------
    init
        Besides the named starts: `transform` needs `initialTransform`, `landmarks` both lists of points.
    geometry
        C-arm values that override the DICOM's; None leaves them.
    mask_frames
        Frames without contrast that are subtracted, from 1; None as the file says, else as found.
    contrast
        Whether vessels are dark or bright where a viewer shows the run; auto as the file says, else as found.
    dsa2, geometry2
        Another run of the head as it lay, and what overrides its DICOM's C-arm values: both runs determine the pose.
    vessels, veins
        Segmentations or label maps on the CTA: the first replaces our segmentation, the second is added.
    dsaMask
        Segmentation or label map on the DSA; replaces our vessels.
    initialTransform, referenceTransform
        Linear transforms CTA to C-arm, RAS mm: where to start, what to measure the error against.
    ctaLandmarks, dsaLandmarks
        Markups with the same points in the same order: on the CTA, and on the DSA as shown.
    """

    geometry: GeometryOptions = GeometryOptions()
    mask_frames: tuple[int, ...] | None = None
    contrast: Contrast = "auto"
    dsa2: Node = None
    geometry2: GeometryOptions = GeometryOptions()
    vessels: Node = None
    veins: Node = None
    dsaMask: Node = None
    initialTransform: Node = None
    referenceTransform: Node = None
    ctaLandmarks: Node = None
    dsaLandmarks: Node = None


def optionsOf(
    parameters: Any, geometry: GeometryOptions = GeometryOptions(), geometry2: GeometryOptions = GeometryOptions()
) -> RegistrationOptions:
    """What the panel's parameter node says.

    :raises InputError: mask frames that are not numbers.
    """
    p = parameters
    chosen: dict[str, Any] = {}
    for name, option in options_of(Segmentation, Search, Refinement).items():
        if not option.parameter:
            continue  # the panel lacks it, for a reason that its declaration gives
        value = getattr(p, option.parameter)
        value = value.value if isinstance(value, enum.Enum) else value
        chosen[name] = (value.strip() or None) if isinstance(value, str) else value
    if chosen["init"] != "network":
        chosen["weights"] = None  # its row is hidden: what stands there was meant for another start
    with wording.panelWords():
        frames = frame_numbers(p.maskFrames.strip() or None, "mask_frames")
    return RegistrationOptions(
        **chosen,
        geometry=geometry,
        mask_frames=None if frames is None else tuple(frame + 1 for frame in frames),
        contrast=p.contrast.value,
        dsa2=p.dsa2,
        geometry2=geometry2,
        vessels=p.vessels,
        veins=p.veins,
        dsaMask=p.dsaMask,
        initialTransform=p.initialTransform,
        referenceTransform=p.reference,
        ctaLandmarks=p.ctaLandmarks,
        dsaLandmarks=p.dsaLandmarks,
    )


# What a first registration imports.
WARMED_UP = (
    "DeepIterRegLib.registration.pipeline",
    "DeepIterRegLib.images.head_kernels",
    "DeepIterRegLib.images.motion",
    "DeepIterRegSlicer.nodes.landmarks",
    "DeepIterRegSlicer.nodes.loading",
    "DeepIterRegSlicer.scene.fill",
    "DeepIterRegSlicer.scene.manual",
    "DeepIterRegSlicer.scene.roadmap",
    "DeepIterRegSlicer.scene.view3d",
    "DeepIterRegSlicer.worker",
)


class DeepIterRegLogic(ScriptedLoadableModuleLogic):
    """Load, register, show. `prepare` and `show` belong on the main thread, `run` on any."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleLogic.__init__(self, parent)
        loggers.calm()

    def warmUp(self) -> threading.Thread:
        """Import the library beside the interface, which else stands still for the second that it takes at first use."""
        # Its modules import each other in a circle, which two threads must not enter at once: who loads a DSA while the
        # thread below is at it would meet half of them. Slicer itself has it loaded by then.
        with contextlib.suppress(ImportError):
            import pydicom  # noqa: F401

        def load() -> None:
            try:
                for name in WARMED_UP:
                    importlib.import_module(name)
                import numba

                # Its first function makes numba load more, and Python then look through all objects, which holds up every thread.
                numba.njit(lambda: None)()
                from DeepIterRegLib.registration.compiled import begin

                begin(everything=True)
                # What was imported stays: garbage collection need not look through it again, a tenth of a second each time.
                gc.freeze()
            except ModuleNotFoundError as error:
                # A module of ours that is not found is a fault, and must not pass for a missing package.
                if (error.name or "").startswith("DeepIterReg"):
                    raise
                return  # a package that is missing is said, and offered, at first use

        # A daemon: Slicer may be closed while it is still at it.
        thread = threading.Thread(target=load, name="DeepIterReg imports", daemon=True)
        thread.start()
        return thread

    def loadAngiogram(self, path: str | Path) -> Node:
        """Read an XA file into the scene, with its C-arm geometry.

        :return: the browser's proxy volume of a run, or the volume of a single frame.
        :raises InputError: no XA run, or one that cannot be decoded.
        """
        from DeepIterRegSlicer.nodes import loading

        with wording.panelWords():
            return loading.loadAngiogram(Path(path))

    def cArmOf(self, dsaNode: Node, typed: GeometryOptions | None = None) -> dict[str, CArmValue]:
        """Each value of the C-arm's geometry, where it came from, or why it is missing.

        The first call copies what the DICOM file says to the node, so that a saved scene still has it.
        """
        from DeepIterRegSlicer.nodes import angiograms

        with wording.panelWords():
            return angiograms.cArmOf(dsaNode, typed or angiograms.AS_IN_FILE)

    def register(self, ctaNode: Node, dsaNode: Node, **options: Any) -> RegistrationNodes:
        """Register a CTA volume to an angiogram and show the result; waits until it is done.

        :param options: fields of `RegistrationOptions`.
        :raises InputError: all that cannot be used, in one message.
        :raises RegistrationError: no pose was found.
        """
        from DeepIterRegLib.common.errors import InputError

        if unknown := console.unknownWords(options, RegistrationOptions):
            raise InputError(unknown)
        return self.show(self.run(self.prepare(ctaNode, dsaNode, RegistrationOptions(**options))))

    def prepare(self, ctaNode: Node, dsaNode: Node, options: RegistrationOptions | None = None) -> Case:
        """Nodes to a case that needs them no more.

        :raises InputError: packages that the options need and are not installed; else all that is wrong, as far as it can be seen
            without reading every voxel.
        """
        from DeepIterRegLib.cases.case import Case, FurtherView
        from DeepIterRegLib.segmentation.cta.settings import CtaSegmentation
        from DeepIterRegLib.segmentation.dsa import DsaSegmentation
        from DeepIterRegSlicer import dependencies
        from DeepIterRegSlicer.nodes import angiograms, landmarks, transforms, volumes
        from DeepIterRegSlicer.nodes import masks as maskNodes

        options = options or RegistrationOptions()
        if dependencies.wantsNetwork(options.init, options.preset, options.device):
            dependencies.ensure(network=True)
        problems = _Problems()
        declared = options_of(Segmentation, Search, Refinement)
        given = (console.nodeProblem("CTA", ctaNode), console.nodeProblem("DSA", dsaNode))
        problems.add(*filter(None, given), *console.wrongKinds(options, declared))
        problems.raiseAll()
        if angiograms.swapped(ctaNode, dsaNode):
            problems.add(
                _(
                    "CTA and DSA seem to be swapped: {name} looks like an angiogram, {name2} like a CT. "
                    "Choose them the other way round."
                ).format(name=ctaNode.GetName(), name2=dsaNode.GetName())
            )
            # At once: everything else that could be said would follow from this.
            problems.raiseAll()
        cta = problems.of(lambda: volumes.ctaSource(ctaNode))
        two = options.dsa2 is not None
        run = problems.of(
            lambda: angiograms.runSource(dsaNode, options.geometry, _subtraction(options)),
            "DSA 1: " if two else "",
        )
        angiogram, carm = run if run is not None else (None, None)
        second = problems.of(lambda: self._secondRun(dsaNode, options), "DSA 2: ") if two else None
        masks = {
            name: problems.of(partial(maskNodes.maskSource, node, cta))
            for name, node in (("cta_vessels", options.vessels), ("cta_veins", options.veins))
            if node is not None and cta is not None
        }
        if options.dsaMask is not None and run is not None:
            masks["dsa_vessels"] = problems.of(lambda: maskNodes.dsaMaskSource(options.dsaMask, dsaNode))
        poses: dict[str, Any] = {}
        if options.referenceTransform is not None:
            poses["reference"] = problems.of(lambda: transforms.poseSource(options.referenceTransform))
        if options.init == "transform":
            poses["initial_pose"] = problems.of(lambda: self._initialTransform(options))
        elif options.init == "landmarks" and carm is not None and cta is not None:
            lists = (options.ctaLandmarks, options.dsaLandmarks)
            poses["landmarks"] = problems.of(lambda: landmarks.landmarkSource(*lists, ctaNode, dsaNode, carm))
        # Made only for what they refuse: a wrong threshold is told now and not after the images were read.
        for settings in (CtaSegmentation, DsaSegmentation):
            problems.of(partial(settings.of, options))
        problems.raiseAll()
        chosen = {name: getattr(options, name) for name in declared}
        # The library has no such names: there a pose or landmarks stand in the case.
        if options.init in ("transform", "landmarks"):
            chosen["init"] = None
        return Case(
            cta=cta,
            angiogram=cast("Callable[..., Angiogram]", angiogram),
            further=() if second is None else (FurtherView(cast("Callable[..., Angiogram]", second[0])),),
            **masks,
            **poses,
            **chosen,
        )

    def run(
        self,
        case: Case,
        onProgress: Progress | None = None,
        shouldStop: ShouldStop | None = None,
        onWarning: Callable[[str], None] | None = None,
    ) -> ShownOutcome:
        """Segment, register, and make ready to show. Touches no node.

        :param onProgress: told each step; see `common.progress`.
        :param shouldStop: asked often; True ends the work with `Cancelled`.
        :param onWarning: told what is doubtful about the inputs before the search; the result's warnings repeat it.
        :raises InputError: all that cannot be used, in one message.
        :raises RegistrationError: no pose was found.
        """
        from DeepIterRegLib.cases.case import register_case
        from DeepIterRegLib.common.progress import Progress
        from DeepIterRegLib.registration.steps import Step, expected
        from DeepIterRegSlicer import wording
        from DeepIterRegSlicer.scene import prepare as prepared

        progress = onProgress or Progress()
        progress.expect(expected(Step.PREPARE_VIEWS, views=1 + len(case.further)))
        with wording.panelWords():
            outcome = register_case(
                case, progress, shouldStop, lambda text: onWarning(wording.worded((text,))[0]) if onWarning else None
            )
        progress(Step.PREPARE_VIEWS, 0.0)
        # Here, in the job's thread: seconds for which the window would else stand still.
        shown = prepared.prepareToShow(outcome)
        progress(Step.PREPARE_VIEWS, 1.0)
        # Worded before they are kept: the scene holds text, which no longer knows its options.
        warnings = wording.worded(outcome.registration.warnings)
        return replace(shown, registration=replace(outcome.registration, warnings=warnings))

    def show(self, outcome: Outcome, nodes: RegistrationNodes | None = None) -> RegistrationNodes:
        """An outcome into the scene: into the nodes of an earlier registration, as far as they still exist, or new ones."""
        from DeepIterRegSlicer.scene import fill, slice_view
        from DeepIterRegSlicer.scene import prepare as prepared

        shown = outcome if isinstance(outcome, prepared.ShownOutcome) else prepared.prepareToShow(outcome)
        filled = fill.show(shown, nodes)
        # Two C-arms and two trees in one 3D view would tell nothing.
        slice_view.showOnly(filled)
        return filled

    def remove(self, result: Node) -> None:
        """Take a result, or a pose set by hand, out of the scene whole; CTA and DSA stay, at the place where they were scanned.

        :param result: its transform (`nodes.ctaToCarm` of what `register` returns).
        :raises InputError: the node is no result.
        """
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer.nodes import transforms
        from DeepIterRegSlicer.scene import removal

        result = getattr(result, "ctaToCarm", result)
        if not hasattr(result, "GetAttribute") or not transforms.isResultTransform(result):
            raise InputError(
                _("Only a result can be removed: give its transform, as the list of registrations has it.")
            )
        removal.remove(result)

    def _secondRun(self, dsaNode: Node, options: RegistrationOptions) -> Any:
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer.nodes import angiograms, frames

        # By the sequence, as a run can be chosen by its sequence or by its proxy volume.
        if (frames.sequenceOf(options.dsa2) or options.dsa2) is (frames.sequenceOf(dsaNode) or dsaNode):
            raise InputError(
                _("{name} is the first DSA too; choose another run, or none.").format(name=options.dsa2.GetName())
            )
        return angiograms.runSource(options.dsa2, options.geometry2, _subtraction(options))

    def _initialTransform(self, options: RegistrationOptions) -> Callable[[], Any]:
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer.nodes import transforms

        if options.initialTransform is None:
            raise InputError(
                _(
                    "No initial transform is selected: choose the linear transform from CTA to C-arm as Transform in the section "
                    "Initialisation."
                )
            )
        return transforms.poseSource(options.initialTransform)


def _subtraction(options: RegistrationOptions) -> Any:
    """The library's settings of what is done with the frames."""
    from DeepIterRegLib.images.subtraction import SubtractionSettings

    frames = None if options.mask_frames is None else tuple(frame - 1 for frame in options.mask_frames)
    return SubtractionSettings(mask_frames=frames, mode=options.subtraction, contrast=options.contrast)


class _Problems:
    """Gathers what is wrong with several parts, to say it at once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def add(self, *problems: str) -> None:
        self._found.extend(problem for problem in problems if problem not in self._found)

    def of(self, make: Callable[[], Any], which: str = "") -> Any:
        """What `make` returns, or None if it says that something is wrong; sentences begin with `which`."""
        from DeepIterRegLib.common.errors import InputError

        try:
            return make()
        except InputError as error:
            from DeepIterRegLib.common.messages import within

            self.add(*(within(problem, which) for problem in error.problems))
            return None

    def raiseAll(self) -> None:
        from DeepIterRegLib.common.errors import InputError

        if self._found:
            raise InputError(wording.worded(self._found))
