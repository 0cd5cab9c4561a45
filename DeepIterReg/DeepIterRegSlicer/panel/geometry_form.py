"""The C-arm's values in the panel: each with where it came from, editable, and kept with the angiogram's node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from DeepIterRegSlicer.panel.sized import layOutAgain

if TYPE_CHECKING:
    from DeepIterRegLib.images.dicom import GeometryOptions

TYPED = "DeepIterReg.Typed."  # + a name of GeometryOptions, on the angiogram's node: what a person typed
FIELDS = {
    "primary_angle_deg": ("primaryAngle", 1),
    "secondary_angle_deg": ("secondaryAngle", 1),
    "sid_mm": ("sid", 1),
    "sod_mm": ("sod", 1),
    "pixel_spacing_mm": ("pixelSpacing", 2),
    "principal_point_px": ("principalPoint", 2),
}


class GeometryForm:
    """Fills the section "C-arm geometry" and reads it.

    :param ui: the panel's widgets.
    :param onChanged: called after a person changed a value.
    """

    def __init__(self, ui: Any, onChanged: Any) -> None:
        self._ui, self._onChanged = ui, onChanged
        self._carrier: Any = None
        self._dsa: Any = None
        for name, (prefix, _count) in FIELDS.items():
            self._edit(prefix).connect("editingFinished()", lambda name=name: self._onEdited(name))
        ui.resetGeometryButton.connect("clicked()", self._onReset)
        ui.geometryOfComboBox.connect("currentIndexChanged(int)", lambda index: onChanged())

    def choose(self, dsa: Any, dsa2: Any) -> Any:
        """The DSA whose geometry a person wants to see: the first, or the second where there is one."""
        if dsa2 is None and self._ui.geometryOfComboBox.currentIndex != 0:
            # The second DSA was taken away while its geometry was shown.
            self._ui.geometryOfComboBox.currentIndex = 0
        for name in ("geometryOfComboBox", "geometryOfLabel"):
            getattr(self._ui, name).visible = dsa2 is not None
        return dsa2 if self._ui.geometryOfComboBox.currentIndex == 1 else dsa

    def show(self, dsaNode: Any) -> None:
        """Fill the section for an angiogram, or empty it for None."""
        self._dsa = dsaNode
        if dsaNode is None:
            self._carrier = None
            self._empty(_("Select a DSA."))
            return
        from DeepIterRegLib.common.errors import InputError
        from DeepIterRegSlicer import wording
        from DeepIterRegSlicer.nodes import angiograms, frames

        # With the sequence, as the attributes of its proxy change with every frame.
        self._carrier = frames.sequenceOf(dsaNode) or dsaNode
        typed, problems = self._read(dsaNode)
        try:
            values = angiograms.cArmOf(dsaNode, typed)
            fromFile = angiograms.cArmOf(dsaNode)
        except InputError as error:
            self._empty("\n".join(wording.worded(error.problems)))
            return
        for name, (prefix, _count) in FIELDS.items():
            value, stored = values[name], fromFile[name]
            edit, source = self._edit(prefix), getattr(self._ui, prefix + "SourceLabel")
            edit.enabled = True
            edit.text = self._typed(name) or _text(name, value.value)
            edit.placeholderText = ""
            if self._typed(name):
                source.text = (
                    _("typed")
                    if stored.value is None
                    else _("typed; the file says {value}").format(value=_text(name, stored.value))
                )
            elif value.value is not None:
                source.text = _("from the file")
            elif value.problem:
                source.text = _("missing: type it")
            else:
                source.text = _("the middle of the image")
            if value.problem and value.problem not in problems:
                problems.append(value.problem)
            # The names of tags are long: beside the values they would widen the panel.
            source.toolTip = value.problem or value.source or _("Where this value comes from.")
        self._ui.carmMessageLabel.text = "\n".join(problems)
        self._ui.carmMessageLabel.visible = bool(problems)
        if problems:
            self._ui.carmCollapsibleButton.collapsed = False  # what has to be typed is seen
            layOutAgain(self._ui.carmCollapsibleButton)
        self._ui.resetGeometryButton.enabled = any(self._typed(name) for name in FIELDS)

    def options(self, dsaNode: Any) -> GeometryOptions:
        """What was typed for an angiogram, whether it is shown or not; nothing for None.

        :raises InputError: every text that is not a number, or not as many numbers as needed.
        """
        from DeepIterRegLib.common.errors import InputError

        values, problems = self._read(dsaNode)
        if problems:
            raise InputError(problems)
        return values

    def _read(self, dsaNode: Any) -> tuple[GeometryOptions, list[str]]:
        """What was typed and can be used, and what is wrong with the rest: the field keeps it, so that it can be mended."""
        from DeepIterRegLib.images.dicom import GeometryOptions
        from DeepIterRegSlicer.nodes import frames

        carrier = None if dsaNode is None else frames.sequenceOf(dsaNode) or dsaNode
        values: dict[str, Any] = {}
        problems = []
        for name, (prefix, count) in FIELDS.items():
            text = (carrier.GetAttribute(TYPED + name) or "") if carrier is not None else ""
            if not text:
                continue
            numbers = _numbers(text)
            if numbers is not None and len(numbers) == 1 and name == "pixel_spacing_mm":
                numbers = numbers * 2
            if numbers is None or len(numbers) != count:
                label = getattr(self._ui, prefix + "Label").text.rstrip(":")
                wanted = _("one number") if count == 1 else _("two numbers with a comma between them")
                problems.append(
                    _("{label} is {text!r}; {wanted} must be typed.").format(label=label, text=text, wanted=wanted)
                )
                continue
            values[name] = numbers[0] if count == 1 else numbers
        return GeometryOptions(**values), problems

    def _edit(self, prefix: str) -> Any:
        return getattr(self._ui, prefix + "Edit")

    def _typed(self, name: str) -> str:
        return (self._carrier.GetAttribute(TYPED + name) or "") if self._carrier is not None else ""

    def _empty(self, message: str) -> None:
        for prefix, _count in FIELDS.values():
            self._edit(prefix).text = ""
            self._edit(prefix).enabled = False
            getattr(self._ui, prefix + "SourceLabel").text = ""
        self._ui.carmMessageLabel.text = message
        self._ui.carmMessageLabel.visible = bool(message)
        self._ui.resetGeometryButton.enabled = False

    def _onEdited(self, name: str) -> None:
        if self._carrier is None:
            return
        from DeepIterRegSlicer.nodes import angiograms

        text = self._edit(FIELDS[name][0]).text.strip()
        # The file's own value is nothing typed: else the panel would say "typed" whenever a field was only left.
        if text == _text(name, angiograms.cArmOf(self._dsa)[name].value):
            text = ""
        if text == self._typed(name):
            return
        self._keep(name, text)
        self._refresh()

    def _onReset(self) -> None:
        for name in FIELDS:
            self._keep(name, "")
        self._refresh()

    def _keep(self, name: str, text: str) -> None:
        if text:
            self._carrier.SetAttribute(TYPED + name, text)
        else:
            self._carrier.RemoveAttribute(TYPED + name)

    def _refresh(self) -> None:
        self.show(self._dsa)
        self._onChanged()


def _text(name: str, value: float | tuple[float, ...] | None) -> str:
    if value is None:
        return ""
    values = value if isinstance(value, tuple) else (value,)
    if name == "pixel_spacing_mm" and len(set(values)) == 1:
        values = values[:1]
    return ", ".join(f"{v:.6g}" for v in values)


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        # Semicolons, as people write where the comma is the decimal sign.
        return tuple(float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        return None
