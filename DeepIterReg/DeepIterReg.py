"""DeepIterReg: registers a CT angiogram to a digital subtraction angiogram of the same head.

Module, parameter node and panel. Logic and self-test are in `DeepIterRegSlicer`, the numerics in `DeepIterRegLib`.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

PACKAGES = ("DeepIterRegLib", "DeepIterRegSlicer")
TICK_MS = 50
RESULT = "DeepIterReg.Result"  # attribute of a result's transform, as in DeepIterRegSlicer.nodes.transforms


def addLibraryPath() -> None:
    """Make the library importable: beside this file in an installed tree, one folder up in a source checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (here, os.path.dirname(here)):
        if os.path.isdir(os.path.join(folder, "DeepIterRegLib")):
            if folder not in sys.path:
                sys.path.append(folder)
            return


def resourcePath(name: str) -> str:
    """A file of `Resources`: beside this file in an installed tree, one folder up in a source checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    beside = os.path.join(here, "Resources", name)
    return beside if os.path.exists(beside) else os.path.join(os.path.dirname(here), "Resources", name)


addLibraryPath()

from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions, optionsOf  # noqa: E402
from DeepIterRegSlicer.parameters import Comparison, DeepIterRegParameterNode, Init, View  # noqa: E402, F401
from DeepIterRegSlicer.selftest import DeepIterRegTest  # noqa: E402, F401


class DeepIterReg(ScriptedLoadableModule):
    """The module's metadata."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("DeepIterReg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Registration")]
        parent.dependencies = []
        parent.contributors = ["The DeepIterReg contributors"]
        parent.helpText = _(
            "Registers a CT angiogram (CTA) to a digital subtraction angiogram (DSA) of the same head, and shows the CTA's vessels "
            "over the angiogram. Research use only, not a medical device."
        )
        parent.acknowledgementText = _("Research use only, not a medical device.")
        icon = resourcePath("Icons/DeepIterReg.png")
        if os.path.isfile(icon):
            parent.icon = qt.QIcon(icon)
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData() -> None:
    """List the synthetic patient in Sample Data."""
    from DeepIterRegSlicer import sample_data

    sample_data.register()


class DeepIterRegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: what a person chooses goes into the parameter node, one job at a time runs in a worker thread."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self.ui: Any = None
        self._parameterNode: Any = None
        self._guiTag: int | None = None
        self._worker: Any = None
        self._onResult: Any = None  # called with what the worker returns
        self._jobNodes: tuple[Any, ...] = ()
        self._warnings: Any = queue.SimpleQueue()  # doubts about the inputs, while a job runs
        self._timer: Any = None
        self._warmUp: Any = None  # thread that imports what takes seconds
        self._shownDsa: Any = None  # whose geometry is in the panel
        self._study: Any = None
        self._shownResult: Any = None

    # -- life cycle ---------------------------------------------------------------------------------

    def setup(self) -> None:
        """Build the panel; works without main window and without views."""
        ScriptedLoadableModuleWidget.setup(self)
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer import dependencies

        try:
            dependencies.checkSlicer()
        except InputError as error:
            label = qt.QLabel(str(error))
            label.wordWrap = True
            self.layout.addWidget(label)
            return
        from DeepIterRegSlicer.panel.geometry_form import GeometryForm
        from DeepIterRegSlicer.panel.manual_form import ManualForm
        from DeepIterRegSlicer.panel.options_form import addMissingRows
        from DeepIterRegSlicer.panel.results_form import ResultsForm
        from DeepIterRegSlicer.panel.study_form import StudyForm
        from DeepIterRegSlicer.panel.viewer_form import ViewerForm

        uiWidget = slicer.util.loadUI(resourcePath("UI/DeepIterReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        addMissingRows(self.ui)
        for selector in (self.ui.resultSelector, self.ui.secondResultSelector):
            selector.addAttribute("vtkMRMLLinearTransformNode", RESULT)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DeepIterRegLogic()
        self._geometry = GeometryForm(self.ui, self._refresh)
        self._viewer = ViewerForm(self.ui, self._setParameter)
        self._results = ResultsForm(self.ui)
        show, refine = partial(self._setParameter, "result"), partial(self._use, self._startRefinement)
        self._manual = ManualForm(self.ui, show, self._viewer.projectionChanged, refine)
        self._study = StudyForm(resourcePath("UI/DeepIterRegStudy.ui"), self._use)
        uiWidget.layout().insertWidget(uiWidget.layout().count() - 1, self._study.widget)  # above the spacer
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self._onTick)
        self.ui.loadXaButton.connect("clicked()", self._onLoadXa)
        self.ui.previewButton.connect("clicked()", self._onPreview)
        self.ui.applyButton.connect("clicked()", self._onApply)
        self.ui.placeCtaButton.connect("clicked()", self._onPlaceCta)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._onSceneEndClose)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Before the panel goes: nothing of it runs on."""
        if self._study is not None:
            self._study.close()
        self._drop()
        self.setParameterNode(None)
        if self.ui is not None:
            self._viewer.closeViews()
        self.removeObservers()

    def enter(self) -> None:
        """The module is shown."""
        if self.logic is not None and self._warmUp is None:
            self._warmUp = self.logic.warmUp()
        self.initializeParameterNode()

    def exit(self) -> None:
        """Another module is shown; a running registration goes on."""
        self.setParameterNode(None)  # stops flicker and manual adjustment

    def onReload(self) -> None:
        """The Reload button: the packages too."""
        self._drop()
        for name in [n for n in sys.modules if n.split(".")[0] in PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def initializeParameterNode(self) -> None:
        """Observe the scene's parameter node."""
        if self.logic is not None:
            self.setParameterNode(self._newParameterNode())

    def _newParameterNode(self) -> Any:
        wrapper: Any = DeepIterRegParameterNode
        return wrapper(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: Any) -> None:
        """Connect panel and parameter node; None only disconnects."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(
                self._parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified
            )
            self._viewer.pause()
            self._manual.leave()
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
            self._showResult()
            self._showGeometry()
            self._refresh()
            self._viewer.resume(parameterNode)

    def _onSceneStartClose(self, caller: Any, event: Any) -> None:
        running = self._worker is not None
        self._drop()
        self._viewer.closeViews()
        self.setParameterNode(None)
        self._showResult()
        self._showGeometry()
        self._say([_("The scene was closed; what was running has been cancelled.")] if running else [])

    def _onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    # -- state of the panel ---------------------------------------------------------------------------

    def _onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        self._refresh()
        if self._parameterNode is not None:
            self._viewer.update(self._parameterNode)

    def _refresh(self) -> None:
        """Bring all that depends on the parameters up to date."""
        parameters = self._parameterNode
        if parameters is None:
            return
        if self._geometry.choose(parameters.dsa, parameters.dsa2) is not self._shownDsa:
            self._showGeometry()
        if parameters.result is not self._shownResult:
            self._chooseResult()
        self._viewer.showColour(parameters.tintColour)
        for name in ("initialTransformSelector", "initialTransformSelectorLabel"):
            getattr(self.ui, name).visible = parameters.init is Init.transform
        for name in ("networkWeightsEdit", "networkWeightsLabel"):
            getattr(self.ui, name).visible = parameters.init is Init.network
        for name in ("ctaLandmarksBox", "ctaLandmarksLabel", "dsaLandmarksBox", "dsaLandmarksLabel"):
            getattr(self.ui, name).visible = parameters.init is Init.landmarks
        self.ui.ctaLandmarksPlaceWidget.setCurrentNode(parameters.ctaLandmarks)
        self.ui.dsaLandmarksPlaceWidget.setCurrentNode(parameters.dsaLandmarks)
        self._showButtons()

    def _showGeometry(self) -> None:
        parameters = self._parameterNode
        dsaNode = None if parameters is None else self._geometry.choose(parameters.dsa, parameters.dsa2)
        try:
            self._geometry.show(dsaNode)
            self._shownDsa = dsaNode
        except ImportError:  # the library's packages come with the first use
            self._geometry.show(None)
            self.ui.carmMessageLabel.text = _("Shown after the first Apply, which installs the packages needed.")
            self.ui.carmMessageLabel.visible = True

    def _showButtons(self) -> None:
        parameters, worker = self._parameterNode, self._worker
        ready = parameters is not None and parameters.cta is not None and parameters.dsa is not None
        if worker is not None:
            text = _("Cancelling...") if worker.cancelling else _("Cancel")
        elif parameters is None or parameters.cta is None:
            text = _("Select a CTA")
        elif parameters.dsa is None:
            text = _("Select a DSA")
        else:
            text = _("Apply")
        self.ui.applyButton.text = text
        self.ui.applyButton.enabled = (worker is not None and not worker.cancelling) or (worker is None and ready)
        self.ui.previewButton.enabled = worker is None and ready
        for name in ("inputs", "carm", "segmentation", "init", "refinement"):
            getattr(self.ui, name + "CollapsibleButton").enabled = worker is None
        self.ui.progressBar.visible = worker is not None
        self._manual.setBusy(worker is not None)

    def _say(self, sentences: Any) -> None:
        """Tell the person, in the panel."""
        self.ui.messageLabel.text = "\n".join(sentences)
        self.ui.messageLabel.visible = bool(sentences)

    # -- what the buttons do ----------------------------------------------------------------------------

    def _onLoadXa(self) -> None:
        types = _("Angiograms (*.dcm *.ima *.png *.tif *.tiff);;All files (*)")
        path = qt.QFileDialog.getOpenFileName(None, _("Load an angiogram"), "", types)
        if path:
            self._use(partial(self._loadXa, path))

    def _loadXa(self, path: str) -> None:
        self._parameterNode.dsa = self.logic.loadAngiogram(path)
        self._say([])

    def _onApply(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            self._showButtons()
        else:
            self._use(self._startRegistration)

    def _onPreview(self) -> None:
        if self._worker is None:
            self._use(self._startPreview)

    def _startRegistration(self) -> None:
        self._startLogic(self._options())

    def _startRefinement(self) -> None:
        """From the pose shown, on what it was registered on."""
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer.scene import results

        parameters = self._parameterNode
        if (inputs := results.inputsOf(parameters.result)) is None:
            raise InputError(_("The CTA or the DSA of this registration is no longer in the scene."))
        parameters.cta, parameters.dsa, parameters.dsa2 = (*inputs, None)[:3]
        self._startLogic(replace(self._options(), init="transform", initialTransform=parameters.result))

    def _startLogic(self, options: RegistrationOptions) -> None:
        self._started, case = time.perf_counter(), self.logic.prepare(*self._inputs()[:2], options)
        self._warnings = queue.SimpleQueue()
        self._start(partial(self.logic.run, case, onWarning=self._warnings.put), self._showOutcome)

    def _inputs(self) -> tuple[Any, ...]:
        p = self._parameterNode
        return (p.cta, p.dsa) if p.dsa2 is None else (p.cta, p.dsa, p.dsa2)

    def _startPreview(self) -> None:
        from DeepIterRegSlicer.scene import preview

        parameters = self._parameterNode
        case = self.logic.prepare(parameters.cta, parameters.dsa, self._options())
        job = partial(preview.run, case, parameters.openingRadiusVoxels, parameters.minComponentVoxels)
        self._start(job, lambda found: preview.show(found, parameters.cta, parameters.dsa))

    def _options(self) -> RegistrationOptions:
        p = self._parameterNode
        return optionsOf(p, self._geometry.options(p.dsa), self._geometry.options(p.dsa2))

    def _use(self, action: Any) -> None:
        """Do something that needs the library's packages: at the first use they are installed, after asking."""
        from DeepIterRegSlicer import dependencies

        def ensured() -> None:
            dependencies.ensure()
            self._refresh()
            action()

        self._guarded(ensured)

    def _guarded(self, action: Any) -> None:
        """Do it; a person's mistake is a sentence in the panel, a fault of ours a box with its traceback."""
        from DeepIterRegLib.common.errors import InputError, RegistrationError
        from DeepIterRegSlicer import wording

        try:
            action()
        except (InputError, RegistrationError) as error:
            self._say(wording.said(error))
        except Exception as error:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        from DeepIterRegLib.common.quiet import debugging
        from DeepIterRegLib.common.shown import fault_words

        # Slicer keeps its log, and what an exception says may quote a header.
        what = fault_words(error)
        logging.error("DeepIterReg failed: %s", what, exc_info=error if debugging() else None)
        self._say([_("Something went wrong inside DeepIterReg: {error}").format(error=what)])
        with slicer.util.tryWithErrorDisplay(_("Something went wrong inside DeepIterReg.")):
            raise error if debugging() else RuntimeError(what) from None

    # -- the running job --------------------------------------------------------------------------------

    def _start(self, job: Any, onResult: Any) -> None:
        from DeepIterRegSlicer.worker import Worker

        self._onResult, self._jobNodes = onResult, self._inputs()
        self._say([])
        self._results.plot.clear()
        self.ui.progressBar.value = 0
        self._worker = Worker(job)
        self._timer.start()
        self._showButtons()

    def _drop(self) -> None:
        """Forget a running job; its thread ends by itself."""
        if self._worker is not None:
            self._worker.cancel()
            self._worker = None
        if self._timer is not None:
            self._timer.stop()
        if self.ui is not None:
            self._showButtons()

    def _onTick(self) -> None:
        """Main thread, every `TICK_MS`: what the worker has to say."""
        from DeepIterRegLib.common.progress import ProgressEvent
        from DeepIterRegSlicer.worker import Finished

        worker = self._worker
        if worker is None:
            self._timer.stop()
            return
        if any(node.GetScene() is not slicer.mrmlScene for node in self._jobNodes) and not worker.cancelling:
            worker.cancel()
            self._say([_("The CTA or the DSA was deleted; cancelling.")])
            self._showButtons()
        while not self._warnings.empty():
            self._say([*filter(None, self.ui.messageLabel.text.split("\n")), self._warnings.get()])
        for event in worker.events():
            if isinstance(event, ProgressEvent):
                self._showProgress(event)
                continue
            self._worker = None
            self._timer.stop()
            self._showButtons()
            if isinstance(event, Finished) and not worker.cancelling:
                self._say([])  # the result repeats the doubts
                self._guarded(partial(self._onResult, event.result))
            else:
                self._showFailure(None if isinstance(event, Finished) else event.error)
        if self._worker is not None:
            self._results.plot.draw()

    def _showProgress(self, event: Any) -> None:
        from DeepIterRegSlicer.panel.steps import stepWords

        words = stepWords()[event.step]
        self.ui.progressBar.value = round(self.ui.progressBar.maximum * event.overall)
        self.ui.progressBar.format = words + ": %p%"
        if event.score is not None:
            self._results.plot.add(words, event.score)

    def _showFailure(self, error: BaseException | None) -> None:
        from DeepIterRegLib.common.errors import Cancelled, InputError, RegistrationError
        from DeepIterRegSlicer import wording

        if error is None or isinstance(error, Cancelled):
            gone = any(node.GetScene() is not slicer.mrmlScene for node in self._jobNodes)
            why = _("The CTA or the DSA was deleted while it ran; it was cancelled.") if gone else _("Cancelled.")
            self._say([why])
        elif isinstance(error, (InputError, RegistrationError)):
            self._say(wording.said(error))
        elif isinstance(error, MemoryError):
            self._say(
                [_("Not enough memory for this CTA: crop or resample it (Crop Volume), or close other programs.")]
            )
        else:
            self._fault(error)

    # -- the result ---------------------------------------------------------------------------------------

    def _showOutcome(self, outcome: Any) -> None:
        from DeepIterRegSlicer.scene import results, slice_view

        parameters = self._parameterNode or self._newParameterNode()
        nodes = self.logic.show(outcome, results.replaceable(parameters.result, self._jobNodes))
        results.keepInputs(nodes, self._jobNodes)
        self._shownResult = nodes.ctaToCarm
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.result = nodes.ctaToCarm
            first, last = slice_view.minipRange(nodes)
            parameters.minipFirst, parameters.minipLast, parameters.minip = first + 1.0, last + 1.0, True
            parameters.view, parameters.showRejected = View.first, False
        self._showResult()
        self._viewer.openOverlay(parameters)
        self.ui.timeValueLabel.text = _("{seconds:.1f} s").format(seconds=time.perf_counter() - self._started)

    def _showResult(self) -> None:
        """Fill all that shows a result from the scene, also after it was reopened."""
        result = self._parameterNode.result if self._parameterNode is not None else None
        self._shownResult, nodes = result, None
        if result is not None:
            from DeepIterRegSlicer.scene import results

            nodes = results.nodesOf(result)
        self._viewer.setNodes(nodes)
        self._manual.setNodes(nodes)
        for section in (self.ui.resultsCollapsibleButton, self.ui.displayCollapsibleButton):
            section.collapsed = result is None
        self._results.show(nodes, self._worker is not None)

    def _chooseResult(self) -> None:
        """Another result is to be shown; the view stays where it is if it is of the same run."""
        before, parameters = self._shownResult, self._parameterNode
        self._showResult()
        parameters.showRejected = False  # agreed to for one result only
        if parameters.result is not None:
            from DeepIterRegSlicer.scene import results

            other = before is None or results.nodesOf(before).frames is not results.nodesOf(parameters.result).frames
            self._viewer.openOverlay(parameters, other)

    def _setParameter(self, name: str, value: Any) -> None:
        if self._parameterNode is not None:
            setattr(self._parameterNode, name, value)

    def _onPlaceCta(self) -> None:
        from DeepIterRegSlicer.scene import results

        if self._parameterNode.cta is not None:
            results.placeUnder(self._parameterNode.result, self._parameterNode.cta)
