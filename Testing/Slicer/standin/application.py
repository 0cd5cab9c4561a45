"""`slicer.app`, the scene, `slicer.modules`, i18n, packaging: no Qt."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import traceback
import types
from collections.abc import Callable
from typing import Any

import slicer
import slicer.util
import vtk

slotErrors: list[str] = []
messages: list[str] = []  # texts of modal boxes
answers: dict[str, Any] = {}  # what a modal box or file dialog answers next, by its name
packagingCalls: list[tuple[str, Any, dict[str, Any]]] = []

# Logics that register node classes, or without which nodes do not work.
LOGICS = (
    "vtkMRMLColorLogic",
    "vtkSlicerSequencesLogic",
    "vtkSlicerMarkupsLogic",
    "vtkSlicerPlotsLogic",
    "vtkSlicerTablesLogic",
    "vtkSlicerSubjectHierarchyModuleLogic",
    "vtkSlicerSegmentationsModuleLogic",
    "vtkSlicerTransformLogic",
    "vtkSlicerVolumesLogic",
    "vtkSlicerCamerasModuleLogic",
    "vtkSlicerUnitsLogic",
)


def _newStrictNamespace(label: str, base: type = object) -> Any:
    """An object whose missing attributes are an error that names it."""

    def missing(self: Any, name: str) -> Any:
        raise AttributeError(f"{label} has no attribute {name!r} (or the stand-in lacks it)")

    return type(label, (base,), {"__getattr__": missing})()


class ModuleManager:
    """`qSlicerModuleManager`: signals by name only."""

    def __init__(self) -> None:
        self._slots: list[tuple[str, Callable[..., Any]]] = []

    def connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        if signal not in ("moduleAboutToBeUnloaded(QString)", "moduleLoaded(QString)"):
            raise AttributeError(f"qSlicerModuleManager has no signal {signal!r}")
        self._slots.append((signal, slot))
        return True

    def disconnect(self, signal: str, slot: Callable[..., Any]) -> bool:
        before = len(self._slots)
        self._slots = [(s, f) for s, f in self._slots if (s, f) != (signal, slot)]
        return len(self._slots) < before

    def emitAboutToBeUnloaded(self, name: str) -> None:
        for signal, slot in list(self._slots):
            if signal == "moduleAboutToBeUnloaded(QString)":
                slot(name)

    def module(self, name: str) -> Any:
        return vars(slicer.modules).get(name.lower())


class CoreIOManager:
    """`qSlicerCoreIOManager`, behind `slicer.util.loadVolume` and `saveScene`: volumes in, bundles of the scene out."""

    def loadNodes(self, fileType: str, properties: dict[str, Any], loaded: Any, messages: Any) -> bool:
        if fileType == "SceneFile":
            return self._openScene(str(properties["fileName"]))
        if fileType != "VolumeFile" or set(properties) - {"fileName", "name"}:
            raise NotImplementedError(f"loadNodes({fileType!r}, {properties}) is more than the stand-in knows")
        path = properties["fileName"]
        name = properties.get("name", os.path.basename(path).partition(".")[0])
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(path)
        if not (os.path.isfile(path) and storage.ReadData(node)):
            slicer.mrmlScene.RemoveNode(node)
            return False
        node.SetAndObserveStorageNodeID(storage.GetID())
        loaded.AddItem(node)
        return True

    def _openScene(self, path: str) -> bool:
        """As Slicer does: what is there is closed, what is in the file is read into the same scene."""
        reader = slicer.vtkMRMLRemoteIOLogic()
        reader.SetMRMLScene(slicer.mrmlScene)
        reader.GetCacheManager().SetRemoteCacheDirectory(os.path.dirname(path))
        reader.AddDataIOToScene()
        slicer.mrmlScene.Clear(0)
        return bool(slicer.mrmlScene.ReadFromMRB(path))

    def saveNodes(self, fileType: str, properties: dict[str, Any], messages: Any) -> bool:
        path = properties["fileName"]
        if fileType != "SceneFile" or not path.endswith(".mrb"):
            raise NotImplementedError(f"saveNodes({fileType!r}, {properties}) is more than the stand-in knows")
        return bool(slicer.mrmlScene.WriteToMRB(path))


class Application:
    """`slicer.app` of `Slicer --no-main-window`: no layout manager until `openViews`. Properties and methods as in Slicer."""

    majorVersion = 5
    minorVersion = 12
    revision = "34000"
    applicationName = "Slicer"
    applicationVersion = "5.12.4-stand-in"
    temporaryPath = tempfile.gettempdir()
    slicerHome = ""

    def __init__(self) -> None:
        self.__dict__["_testing"] = False
        self.__dict__["_moduleManager"] = ModuleManager()
        self.__dict__["_startup"] = []
        self.__dict__["_logic"] = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "temporaryPath":
            raise AttributeError(f"qSlicerApplication has no settable attribute {name!r}")
        self.__dict__[name] = value

    def testingEnabled(self) -> bool:
        return bool(self.__dict__["_testing"])

    def layoutManager(self) -> Any:
        return self.__dict__.get("_layoutManager")

    def moduleManager(self) -> ModuleManager:
        manager: ModuleManager = self.__dict__["_moduleManager"]
        return manager

    def applicationLogic(self) -> Any:
        return self.__dict__["_logic"]

    def coreIOManager(self) -> CoreIOManager:
        return CoreIOManager()

    def topLevelWidgets(self) -> tuple[Any, ...]:
        if "qt" not in sys.modules:
            return ()
        from .pythonqt import topLevelWidgets

        return topLevelWidgets()

    def processEvents(self) -> None:
        if "qt" in sys.modules:
            from .pythonqt import processEvents

            processEvents(0.0)

    def userSettings(self) -> Any:
        import qt

        return qt.QSettings()

    settings = userSettings

    def setOverrideCursor(self, cursor: Any) -> None:
        pass

    def restoreOverrideCursor(self) -> None:
        pass

    def connect(self, signal: str, slot: Callable[..., Any]) -> bool:
        if signal not in ("startupCompleted()", "aboutToQuit()"):
            raise AttributeError(f"qSlicerApplication has no signal {signal!r}")
        self.__dict__["_startup"].append((signal, slot))
        return True

    def disconnect(self, signal: str, slot: Callable[..., Any]) -> bool:
        self.__dict__["_startup"].remove((signal, slot))
        return True

    def emitSignal(self, signal: str) -> None:
        """Of the stand-in: emit `startupCompleted()` or `aboutToQuit()`."""
        for name, slot in list(self.__dict__["_startup"]):
            if name == signal:
                slot()


def newScene() -> Any:
    """An empty scene with the modules' logics, as `slicer.mrmlScene`; the old one is left to whoever holds it."""
    views = slicer.app.layoutManager()
    if views is not None:
        views.close()
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkMRMLApplicationLogic()
    logic.SetMRMLScene(scene)
    logics = {}
    for name in LOGICS:
        each = getattr(slicer, name)()
        if hasattr(each, "SetMRMLApplicationLogic"):
            each.SetMRMLApplicationLogic(logic)
        each.SetMRMLScene(scene)
        logic.SetModuleLogic(name.removeprefix("vtkSlicer").removeprefix("vtkMRML").removesuffix("Logic"), each)
        logics[name] = each
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _forgetItem)
    slicer.mrmlScene = scene
    slicer.app.__dict__["_layoutManager"] = None
    slicer.app.__dict__["_logic"] = logic
    slicer.app.__dict__["_logics"] = logics  # kept alive with the scene
    for module, name in (
        ("sequences", "vtkSlicerSequencesLogic"),
        ("markups", "vtkSlicerMarkupsLogic"),
        ("plots", "vtkSlicerPlotsLogic"),
        ("tables", "vtkSlicerTablesLogic"),
        ("colors", "vtkMRMLColorLogic"),
        ("segmentations", "vtkSlicerSegmentationsModuleLogic"),
        ("transforms", "vtkSlicerTransformLogic"),
        ("volumes", "vtkSlicerVolumesLogic"),
        ("cameras", "vtkSlicerCamerasModuleLogic"),
    ):
        held = types.SimpleNamespace(logic=lambda each=logics[name]: each)
        setattr(slicer.modules, module, held)
    return scene


@vtk.calldata_type(vtk.VTK_OBJECT)
def _forgetItem(scene: Any, event: str, node: Any) -> None:
    """What the plugins of Slicer's subject hierarchy do: the item of a node goes with it."""
    if scene is None:  # it is being deleted
        return
    trees = scene.GetNodesByClass("vtkMRMLSubjectHierarchyNode")
    if scene.IsClosing() or trees.GetNumberOfItems() == 0 or node.IsA("vtkMRMLSubjectHierarchyNode"):
        return
    tree = trees.GetItemAsObject(0)
    item = tree.GetItemByDataNode(node)
    if item:
        tree.RemoveItem(item, False, False)


def openViews(threeD: bool = True) -> Any:
    """Of the stand-in: a layout manager for the scene there is, as with a main window; gone with the scene."""
    from .views import LayoutManager

    slicer.app.__dict__["_layoutManager"] = LayoutManager(threeD)
    return slicer.app.layoutManager()


def installSlicer() -> None:
    """Put the pieces that need no Qt into `slicer`."""
    if hasattr(slicer, "app"):
        return
    slicer.modules = _newStrictNamespace("slicer.modules")
    slicer.app = Application()
    slicer.selfTests = {}
    newScene()
    _addModule("slicer.i18n", tr=_tr, translate=_translate, getContext=lambda path: os.path.basename(path))
    _addModule(
        "slicer.packaging",
        pip_check=_pipCheck,
        pip_ensure=_pipEnsure,
        pip_install=_pipInstall,
        load_requirements=_loadRequirements,
        isPipInstallInProgress=lambda: False,
    )
    from . import modules, parameterNode

    _addModule(
        "slicer.ScriptedLoadableModule",
        **{name: getattr(modules, name) for name in modules.__all__},
        __all__=list(modules.__all__),
    )
    _addModule(
        "slicer.parameterNodeWrapper",
        **{name: getattr(parameterNode, name) for name in parameterNode.__all__},
        __all__=list(parameterNode.__all__),
    )
    sys.excepthook = _recordException


def _addModule(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    setattr(slicer, name.rpartition(".")[2], module)


def _recordException(kind: type[BaseException], value: BaseException, where: Any) -> None:
    text = "".join(traceback.format_exception(kind, value, where))
    slotErrors.append(text)
    sys.stderr.write(text)


def _tr(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"tr() wants a string, not {type(text).__name__}")
    return text


def _translate(context: str, text: str) -> str:
    if not isinstance(context, str):
        raise TypeError("translate() wants a context and a text")
    return _tr(text)


# -- slicer.packaging: records, installs nothing -----------------------------------------------------------------------


def _pipCheck(req: Any) -> bool:
    """Whether requirements are met, by their metadata alone."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    for text in [req] if isinstance(req, str) else req:
        requirement = Requirement(str(text))
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            if not requirement.specifier.contains(version(requirement.name), prereleases=True):
                return False
        except PackageNotFoundError:
            return False
    return True


def hidePackages(*hidden: str) -> None:
    """Of the stand-in: this process finds no metadata of these packages any more, as if they were not installed."""
    import importlib.metadata

    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    importlib.metadata.version = version


def _pipEnsure(
    requirements: Any,
    constraints: Any = None,
    skip_packages: Any = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: Any = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    called = {k: v for k, v in locals().items() if k != "requirements"}
    packagingCalls.append(("pip_ensure", requirements, called))
    if not answers.get("pip_ensure", True):
        raise RuntimeError("User declined package installation")


def _pipInstall(
    requirements: Any,
    constraints: Any = None,
    no_deps_requirements: Any = None,
    skip_packages: Any = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: Any = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> Any:
    called = {k: v for k, v in locals().items() if k != "requirements"}
    packagingCalls.append(("pip_install", requirements, called))
    return []


def _loadRequirements(path: Any) -> list[str]:
    with open(path, encoding="utf-8") as file:
        lines = (line.split("#")[0].strip() for line in file)
        return [line for line in lines if line and not line.startswith("-")]


def importFile(name: str, path: str) -> types.ModuleType:
    """Import a file under a module name, as Slicer's factory does."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    logging.getLogger(__name__).debug("Loaded %s", path)
    return module
