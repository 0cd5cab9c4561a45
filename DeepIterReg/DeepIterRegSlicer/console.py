"""What is typed at the Python console: names for nodes, misspelt options, values of another kind; each is one sentence.

A panel cannot hand over such things, and a library need not look: here a person sees the answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from slicer.i18n import tr as _

from DeepIterRegLib.common.option import Option

MASKS = ("vtkMRMLSegmentationNode", "vtkMRMLScalarVolumeNode")
RUNS = ("vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode", "vtkMRMLVolumeNode")
# What a node that is given has to be.
NODES = {
    "dsa2": RUNS,
    "vessels": MASKS,
    "veins": MASKS,
    "dsaMask": MASKS,
    "initialTransform": ("vtkMRMLTransformNode",),
    "referenceTransform": ("vtkMRMLTransformNode",),
    "ctaLandmarks": ("vtkMRMLMarkupsNode",),
    "dsaLandmarks": ("vtkMRMLMarkupsNode",),
}


def unknownWords(given: Iterable[str], known: type) -> list[str]:
    """A sentence for each name that is no field of a dataclass."""
    names = [field.name for field in fields(known)]
    sentences = []
    for word in given:
        if word in names:
            continue
        near = difflib.get_close_matches(word, names, 1, 0.6)
        sentences.append(
            _("There is no option {name}; did you mean {near}?").format(name=word, near=near[0])
            if near
            else _("There is no option {name}; there are {names}.").format(name=word, names=", ".join(names))
        )
    return sentences


def nodeProblem(what: str, node: Any, kinds: tuple[str, ...] = ()) -> str:
    """Why what was given is no node, or none of the kinds; empty if it is one. None says nothing here.

    :param what: as it is called for people.
    """
    if node is None:
        return ""
    if isinstance(node, str):
        return _("{what} is given as text; give the node: slicer.util.getNode finds it by its name.").format(what=what)
    if not callable(getattr(node, "IsA", None)) or not node.IsA("vtkMRMLNode"):
        return _("{what} is of the kind {kind}; give a node of the scene.").format(what=what, kind=type(node).__name__)
    if kinds and not any(node.IsA(kind) for kind in kinds):
        wanted = _(" or ").join(kind.removeprefix("vtkMRML").removesuffix("Node") for kind in kinds)
        return _("{what} is a node of the kind {kind}; a {wanted} is needed.").format(
            what=what, kind=node.GetNodeTagName(), wanted=wanted
        )
    return ""


def wrongKinds(options: Any, declared: Mapping[str, Option]) -> list[str]:
    """A sentence for each value of a `RegistrationOptions` that is not of its kind.

    :param declared: its options, by the names of their fields.
    """
    problems = [nodeProblem(name, getattr(options, name), kinds) for name, kinds in NODES.items()]
    problems += [_valueProblem(name, option, getattr(options, name)) for name, option in declared.items()]
    for name in ("geometry", "geometry2"):
        if not hasattr(getattr(options, name), "sid_mm"):
            problems.append(_("{name} must be a GeometryOptions of DeepIterRegLib.common.options.").format(name=name))
    frames = options.mask_frames
    if frames is not None and not (isinstance(frames, (tuple, list)) and all(_isWhole(frame) for frame in frames)):
        problems.append(_("mask_frames must be numbers of frames, from 1: for example (1, 2)."))
    return [problem for problem in problems if problem]


def _isWhole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _valueProblem(name: str, option: Option, value: Any) -> str:
    if value is None:
        return ""
    match option.kind:
        case "yes or no":
            fits, wanted = isinstance(value, bool), _("True or False")
        case "number":
            fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), _("a number")
        case "whole number":
            fits, wanted = _isWhole(value), _("a whole number")
        case "choice":
            fits, wanted = value in option.choices, _(" or ").join(option.choices)
        case "start":
            wanted = _(" or ").join((*option.choices, "transform"))
            fits = value in (*option.choices, "transform")
        case "text" | "file":
            fits, wanted = isinstance(value, str) or hasattr(value, "__fspath__"), _("text")
        case _:
            return ""
    return "" if fits else _("{name} must be {wanted}.").format(name=name, wanted=wanted)
