"""`slicer.ScriptedLoadableModule` and the factory that loads modules: written from their documented behaviour."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path
from typing import Any

import slicer

from .application import importFile

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return ""

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        test = getattr(sys.modules[type(self).__module__], self.moduleName + "Test")()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        import qt

        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(qt.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        else:
            self.parent = parent
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def cleanup(self) -> None:
        pass

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            manager = slicer.app.moduleManager()
            manager.disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def setup(self) -> None:
        pass

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        if node.GetAttribute("ModuleName") != self.moduleName:
            node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    messageDelay = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*(args or ("runTest",)), **kwargs)

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        print(message)
        slicer.app.processEvents()

    def runTest(self) -> None:
        """Every callable whose name contains "test", as Slicer does."""
        for name in dir(self):
            if "test" in name.lower() and name.startswith("test") and callable(getattr(self, name)):
                self.setUp()
                getattr(self, name)()
                self.tearDown()


class ScriptedModule:
    """`qSlicerScriptedLoadableModule`, what a module's `parent` is."""

    FIELDS = (
        "title",
        "categories",
        "dependencies",
        "contributors",
        "helpText",
        "acknowledgementText",
        "icon",
        "path",
        "hidden",
        "index",
        "associatedNodeTypes",
        "widgetRepresentationCreationEnabled",
    )

    def __init__(self, name: str, path: str) -> None:
        self.__dict__.update(path=path, name=name, hidden=False, _representation=None, pythonInstance=None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.FIELDS:
            raise AttributeError(f"qSlicerScriptedLoadableModule has no property {name!r}")
        expected = list if name in ("categories", "dependencies", "contributors", "associatedNodeTypes") else str
        if name not in ("icon", "hidden", "index", "widgetRepresentationCreationEnabled") and not isinstance(
            value, expected
        ):
            raise ValueError(f"Property {name!r} does not accept {value!r}")
        self.__dict__[name] = value

    def widgetRepresentation(self) -> Any:
        if self.__dict__["_representation"] is None:
            self.__dict__["_representation"] = self.createNewWidgetRepresentation()
        return self.__dict__["_representation"]

    def createNewWidgetRepresentation(self) -> Any:
        from .pythonqt import newModuleWidget

        representation = newModuleWidget(self.name)
        representation.setMRMLScene(slicer.mrmlScene)
        representation.reload()
        return representation


def loadModule(path: str | Path) -> ScriptedModule:
    """Load a scripted module from its file: its folder joins `sys.path`, `slicer.modules` gets it. The widget is made on first use."""
    path = Path(path)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = ScriptedModule(path.stem, str(path))
    python = importFile(path.stem, str(path))
    setattr(slicer.modules, path.stem.lower(), module)
    module.__dict__["pythonInstance"] = getattr(python, path.stem)(module)
    return module
