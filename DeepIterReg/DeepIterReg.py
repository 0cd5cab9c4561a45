"""DeepIterReg: registers a CT angiogram to a digital subtraction angiogram of the same head.

Module, parameter node and panel. Logic and self-test are in `DeepIterRegSlicer`, the numerics in `DeepIterRegLib`.
"""

from __future__ import annotations

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
SECTIONS = ("inputs", "carm", "segmentation", "init", "refinement")  # that nobody changes while a job runs


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

from DeepIterRegLib.common.own_symbols import bind_own  # noqa: E402
from DeepIterRegSlicer.logic import DeepIterRegLogic, RegistrationOptions, optionsOf  # noqa: E402
from DeepIterRegSlicer.parameters import Comparison, DeepIterRegParameterNode, Init, View  # noqa: E402, F401
from DeepIterRegSlicer.selftest import DeepIterRegTest  # noqa: E402, F401

bind_own()  # before anybody imports pydicom, which imports GDCM


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
        self._job: Any = None
        self._warmUp: Any = None  # thread that imports what takes seconds
        self._shownDsa: Any = None  # whose geometry is in the panel
        self._study: Any = None
        self._follow: Any = None
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
        from DeepIterRegSlicer.panel.options_form import addMissingRows

        uiWidget = slicer.util.loadUI(resourcePath("UI/DeepIterReg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        addMissingRows(self.ui)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = DeepIterRegLogic()
        self._makeForms()
        contents = self.ui.panelContents.layout()
        contents.insertWidget(contents.count() - 1, self._study.widget)  # above the spacer
        self.ui.previewButton.connect("clicked()", self._onPreview)
        self.ui.overlayButton.connect("clicked()", self._onOverlay)
        self.ui.placeCtaButton.connect("clicked()", partial(self._guard.guarded, self._placeCta))
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneEndImport)
        self._choice.watch(True)
        self.initializeParameterNode()

    def _makeForms(self) -> None:
        from DeepIterRegSlicer.panel.bar import Bar
        from DeepIterRegSlicer.panel.follow_form import FollowForm
        from DeepIterRegSlicer.panel.geometry_form import GeometryForm
        from DeepIterRegSlicer.panel.guard import Guard
        from DeepIterRegSlicer.panel.inputs_form import InputsForm
        from DeepIterRegSlicer.panel.job import Job
        from DeepIterRegSlicer.panel.manual_form import ManualForm
        from DeepIterRegSlicer.panel.result_choice import ResultChoice
        from DeepIterRegSlicer.panel.results_form import ResultsForm
        from DeepIterRegSlicer.panel.sized import wholeWhenOpened
        from DeepIterRegSlicer.panel.study_form import StudyForm
        from DeepIterRegSlicer.panel.viewer_form import ViewerForm

        ui = self.ui
        self._bar = Bar(ui, self._onApply)
        self._guard = Guard(self._bar, self._refresh)
        self._choice = ResultChoice(ui)
        self._geometry = GeometryForm(ui, self._refresh)
        self._inputs = InputsForm(ui, self.logic, self._guard.use, lambda: self._parameterNode, self._onArrived)
        self._viewer = ViewerForm(ui, self._setParameter)
        self._results = ResultsForm(ui)
        show, refine = partial(self._setParameter, "result"), partial(self._guard.use, self._startRefinement)
        self._manual = ManualForm(ui, show, self._viewer.projectionChanged, refine)
        self._study = StudyForm(resourcePath("UI/DeepIterRegStudy.ui"), self._guard.use)
        self._job = Job(self._bar, self._guard, self._results.plot, self._showButtons)
        told = (self._parameters, lambda: optionsOf(self._parameters()), self._present, self._onRunMoved)
        self._follow = FollowForm(ui, self._bar, self._guard, *told)
        for part in ("carm", "results", "compare", "roadmap", "pick", "manual", "follow"):  # with sentences
            wholeWhenOpened(getattr(ui, part + "CollapsibleButton"))

    def cleanup(self) -> None:
        """Before the panel goes: nothing of it runs on."""
        if self.ui is not None:
            self._study.close()
            self._job.drop()
            self._follow.drop()
            self.setParameterNode(None)
            self._viewer.closeViews()
            self._inputs.watch(False)
            self._choice.watch(False)
        self.removeObservers()

    def enter(self) -> None:
        """The module is shown, and with it the registration as it was seen last."""
        if self.logic is None:
            return
        if self._warmUp is None:
            self._warmUp = self.logic.warmUp()
        self.initializeParameterNode()
        self._inputs.watch(True)
        self._onArrived()
        self._showViews()

    def exit(self) -> None:
        """Another module is shown, with the views as they were before; a running registration goes on."""
        self.setParameterNode(None)  # stops flicker and manual adjustment
        if self.ui is not None:
            self._inputs.watch(False)
            self._viewer.leave()

    def onReload(self) -> None:
        """The Reload button: the packages too."""
        if self._job is not None:
            self._job.drop()
            self._follow.drop()
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

    def _parameters(self) -> Any:
        """Of the scene there is, also while another module is shown."""
        return self._parameterNode or self._newParameterNode()

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
            self._follow.resume(parameterNode)
            self._refresh()
            self._viewer.resume(parameterNode)

    def _onSceneStartClose(self, caller: Any, event: Any) -> None:
        running = self._job.worker is not None
        running = running or self._follow.running
        self._job.drop()
        self._follow.drop()
        self._viewer.closeViews()
        self._inputs.forget()
        self.setParameterNode(None)
        self._showResult()
        self._showGeometry()
        self._bar.say([_("The scene was closed; what was running has been cancelled.")] if running else [])
        self.ui.scrollArea.verticalScrollBar().value = 0

    def _onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def _onSceneEndImport(self, caller: Any, event: Any) -> None:
        """A scene was loaded: its parameters came node by node, and what they name after them; the lists know it a turn later."""
        qt.QTimer.singleShot(0, self._onImported)

    def _onImported(self) -> None:
        if self._parameterNode is not None and self.parent.isEntered:
            self.initializeParameterNode()
            self._onArrived()
            self._showViews()

    # -- state of the panel ---------------------------------------------------------------------------

    def _onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        if slicer.mrmlScene.IsImporting():
            return
        self._refresh()
        if self._parameterNode is not None:
            self._viewer.update(self._parameterNode)

    def _onArrived(self) -> None:
        """Nodes came into the scene: where there is one of a kind, it is chosen."""
        self._inputs.choose(self._parameterNode)
        self._choice.take(self._parameterNode)

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
        self._inputs.note(parameters)
        self._inputs.showPoints(parameters)
        self._follow.refresh()
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
        parameters, worker = self._parameterNode, None if self._job is None else self._job.worker
        missing = ""
        if parameters is None or parameters.cta is None:
            missing = _("Select a CTA")
        elif parameters.dsa is None:
            missing = _("Select a DSA")
        self._bar.showState(worker, missing)
        self.ui.previewButton.enabled = worker is None and not missing
        for name in ("inputsBox", *(f"{part}CollapsibleButton" for part in SECTIONS)):
            getattr(self.ui, name).enabled = worker is None
        self._manual.setBusy(worker is not None)
        self._results.showMoved(None if parameters is None else parameters.cta)

    # -- what the buttons do ----------------------------------------------------------------------------

    def _onApply(self) -> None:
        if self._job.worker is not None:
            self._job.cancel()
        else:
            self._guard.use(self._startRegistration)

    def _onPreview(self) -> None:
        if self._job.worker is None:
            self._guard.use(self._startPreview)

    def _onOverlay(self) -> None:
        if self._parameterNode is not None:
            self._viewer.showAgain(self._parameterNode)

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
        self._manual.showRefining()

    def _startLogic(self, options: RegistrationOptions) -> None:
        self._started, case = time.perf_counter(), self.logic.prepare(*self._chosenInputs()[:2], options)
        self._job.warnings = queue.SimpleQueue()
        work = partial(self.logic.run, case, onWarning=self._job.warnings.put)
        self._job.start(work, self._chosenInputs(), self._showOutcome)

    def _chosenInputs(self) -> tuple[Any, ...]:
        p = self._parameterNode
        return (p.cta, p.dsa) if p.dsa2 is None else (p.cta, p.dsa, p.dsa2)

    def _startPreview(self) -> None:
        from DeepIterRegSlicer.scene import preview

        parameters = self._parameterNode
        case = self.logic.prepare(parameters.cta, parameters.dsa, self._options())
        work = partial(preview.run, case, parameters.openingRadiusVoxels, parameters.minComponentVoxels)
        shown = (parameters.cta, parameters.dsa)
        self._job.start(work, self._chosenInputs(), lambda found: preview.show(found, *shown))

    def _options(self) -> RegistrationOptions:
        p = self._parameterNode
        return optionsOf(p, self._geometry.options(p.dsa), self._geometry.options(p.dsa2))

    # -- the result ---------------------------------------------------------------------------------------

    def _showOutcome(self, outcome: Any) -> None:
        from DeepIterRegSlicer.scene import results

        old = results.replaceable(self._parameters().result, self._job.nodes)
        nodes = self.logic.show(outcome, old)
        results.keepInputs(nodes, self._job.nodes)
        self._present(nodes.ctaToCarm, isNew=old is None)
        self._viewer.keepDrawn(outcome)
        self.ui.timeValueLabel.text = _("{seconds:.1f} s").format(seconds=time.perf_counter() - self._started)

    def _present(self, result: Any, isNew: bool = True) -> None:
        """Show a result, whole: one that has just come, or that was asked for in the list of a session."""
        from DeepIterRegSlicer.scene import results, slice_view

        parameters, nodes = self._parameters(), results.nodesOf(result)
        self._shownResult = result
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.result = result
            first, last = slice_view.minipRange(nodes)
            parameters.minipFirst, parameters.minipLast, parameters.minip = first + 1.0, last + 1.0, True
            parameters.view, parameters.showRejected = View.first, False
        self._showResult(parameters)
        if self._parameterNode is not None:
            self._viewer.openOverlay(parameters)
        else:
            # Shown when the person comes back; nothing that is looked at elsewhere is touched.
            self._viewer.pause()
            self._manual.leave()
            if isNew:
                self._viewer.hide()

    def _onRunMoved(self, result: Any) -> None:
        """The result that is shown stands elsewhere now, as other runs know it better."""
        self._showResult(self._parameters())
        if self._parameterNode is not None:
            self._viewer.openOverlay(self._parameterNode, False)

    def _showViews(self) -> None:
        """Whatever the views show, the registration in them as it was seen last."""
        if self._parameterNode is not None:
            self._viewer.showAgain(self._parameterNode, zoomed=True)

    def _showResult(self, parameters: Any = None) -> None:
        """Fill all that shows a result from the scene, also after it was reopened."""
        parameters = parameters or self._parameterNode
        result = parameters.result if parameters is not None else None
        self._shownResult, nodes = result, None
        if result is not None:
            from DeepIterRegSlicer.scene import results

            nodes = results.nodesOf(result)
        self._viewer.setNodes(nodes)
        self._manual.setNodes(nodes)
        self._results.show(nodes, self._job is not None and self._job.worker is not None)

    def _chooseResult(self) -> None:
        """Another result is to be shown; the view stays where it is if it is of the same run."""
        before, parameters = self._shownResult, self._parameterNode
        self._choice.chosen(before, parameters.result)
        self._showResult()
        parameters.showRejected = False  # agreed to for one result only
        if parameters.result is not None:
            from DeepIterRegSlicer.scene import results

            other = before is None or results.nodesOf(before).frames is not results.nodesOf(parameters.result).frames
            self._viewer.openOverlay(parameters, other)

    def _setParameter(self, name: str, value: Any) -> None:
        if self._parameterNode is not None:
            setattr(self._parameterNode, name, value)

    def _placeCta(self) -> None:
        parameters = self._parameterNode
        self._bar.say(self._results.placeCta(parameters))
        self._results.showMoved(parameters.cta)
