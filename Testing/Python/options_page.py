"""Writes what is made from the declarations of options, the page and the panel's labels: make docs."""

from __future__ import annotations

from pathlib import Path

from DeepIterRegLib.common.option import Option, options_of
from DeepIterRegLib.common.options import GROUPS, OPTIONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "Resources" / "Docs" / "options.md"
LABELS = ROOT / "DeepIterReg" / "DeepIterRegSlicer" / "option_labels.py"
HEAD = """# Options of a registration

This page is made by `make docs` from the declarations in `DeepIterRegLib/common/options.py`.
The *option* is one of `deepiterreg register`; the *column* is one of the table of `deepiterreg batch`; the *panel* is that of 3D Slicer.
Columns whose name ends in `2` are of the second DSA.
"""


def page() -> str:
    """The page as it should be."""
    parts = [HEAD]
    for title, group in GROUPS.items():
        parts.append(
            f"\n## {title}\n\n| option | column | panel | what it is | range | default |\n|---|---|---|---|---|---|\n"
        )
        parts += [_row(option) for option in options_of(group).values()]
    return "".join(parts)


def _row(option: Option) -> str:
    line = {"cta": "CTA", "dsa": "DSA [DSA2]..."}.get(option.name, "--" + option.name.replace("_", "-"))
    column = f"`{option.name}`" + (f", `{option.name}2`" if option.each or option.name == "dsa" else "")
    panel = option.panel or f"no: {option.not_in_panel}"
    values = ", ".join(f"`{word}`" for word in option.choices) or option.range_words or option.unit
    return f"| `{line}` | {column} | {panel} | {option.help} | {values} | {_default(option)} |\n"


def _default(option: Option) -> str:
    if option.unset:
        return option.unset
    if option.default is None or option.default == Path():
        return ""
    return {True: "yes", False: "no"}[option.default] if isinstance(option.default, bool) else f"{option.default}"


def labels() -> str:
    """The module of labels as it should be: each as a literal, which is how translators' tools find it."""
    lines = [f'        "{option.name}": _("{option.panel}"),\n' for option in OPTIONS.values() if option.panel]
    return (
        '"""The panel\'s label of each option; made by `make docs` from their declarations, so that they can be translated."""\n\n'
        "from slicer.i18n import tr as _\n\n\n"
        'def labels() -> dict[str, str]:\n    """By the option\'s id."""\n'
        f"    return {{\n{''.join(lines)}    }}\n"
    )


if __name__ == "__main__":
    LABELS.write_text(labels(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Written: {PAGE} and {LABELS}")
