"""Register a CTA to a DSA in 3D Slicer, show the overlay, and save the scene.

As a script::

    Slicer --no-main-window --python-script script_in_slicer.py -- cta.nii.gz run.dcm scene.mrb

At Slicer's Python console::

    import sys
    sys.path.append("/path/to/Resources/Docs/examples")
    import script_in_slicer
    nodes = script_in_slicer.registerAndSave("cta.nii.gz", "run.dcm", "scene.mrb")

The module DeepIterReg must be installed. Research use only. Not a medical device.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import slicer

from DeepIterReg import DeepIterRegLogic
from DeepIterRegSlicer.scene.slice_view import showOverlay


def registerAndSave(ctaPath: str, dsaPath: str, scenePath: str, **options: Any) -> Any:
    """Load, register, show, save; the nodes of the result.

    :param options: fields of `RegistrationOptions`, for example `init="search"`.
    """
    cta = slicer.util.loadVolume(ctaPath)
    logic = DeepIterRegLogic()
    dsa = logic.loadAngiogram(dsaPath)
    nodes = logic.register(cta, dsa, **options)

    confidence = json.loads(nodes.registration.GetText())["confidence"]
    print(f"{confidence['state']}: {100 * confidence['probability']:.0f} % likely to be right")
    if confidence["expected_error_mm"] is not None:  # a rejected result has none
        print(f"Expected error {confidence['expected_error_mm']:.1f} mm")
    for reason in confidence["reasons"]:
        print(f"- {reason}")

    show(nodes)
    if not slicer.util.saveScene(scenePath):
        raise OSError(f"{scenePath} could not be written.")
    return nodes


def show(nodes: Any, opacity: float = 0.6) -> None:
    """The red slice view looks at the detector: MinIP of the run, the CTA's vessels over it. Without views nothing happens."""
    layoutManager = slicer.app.layoutManager()
    view = layoutManager.sliceWidget("Red") if layoutManager else None
    if view is not None:
        showOverlay(nodes, view.mrmlSliceNode(), view.mrmlSliceCompositeNode(), opacity)


def main() -> None:
    """Do what the command line says, and end a Slicer that has no main window."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--"]
    if len(arguments) != 3:
        sys.exit("Give three files: CTA, DSA, and the scene to write (.mrb).")
    try:
        registerAndSave(*arguments)
    except ValueError as error:  # InputError: sentences on what is wrong with the input
        print(error, file=sys.stderr)
        slicer.util.exit(2)
    else:
        if slicer.util.mainWindow() is None:
            slicer.util.exit(0)


if __name__ == "__main__":
    main()
