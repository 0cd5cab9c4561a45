"""A row in the panel for each declared option that the panel's file (DeepIterReg.ui) has no widget for."""

from __future__ import annotations

from typing import Any

import qt

from DeepIterRegLib.common.options import OPTIONS
from DeepIterRegSlicer.option_labels import labels

_WIDGETS = {"yes or no": "QCheckBox", "whole number": "QSpinBox", "number": "QDoubleSpinBox", "choice": "QComboBox"}


def addMissingRows(ui: Any) -> list[str]:
    """Put the missing rows into the section "Advanced", each connected to its field of the parameter node.

    :param ui: the panel's widgets; the new ones join them under `<parameter>Widget`.
    :return: the fields that got a row.
    """
    # By this property Slicer's parameter node finds its widgets, those of the file and these.
    present = {widget.property("SlicerParameterName") for widget in vars(ui).values()}
    known, added = labels(), []
    for option in OPTIONS.values():
        if not option.parameter or option.parameter in present:
            continue
        widget = getattr(qt, _WIDGETS.get(option.kind, "QLineEdit"))()
        widget.setProperty("SlicerParameterName", option.parameter)
        widget.toolTip = option.help
        ui.advancedCollapsibleButton.layout().addRow(known[option.name] + ":", widget)
        setattr(ui, option.parameter + "Widget", widget)
        added.append(option.parameter)
    return added
