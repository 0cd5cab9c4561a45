"""Nodes that only show a registration: no CTA, no DSA, no landmarks, and nothing that a person edits."""

from __future__ import annotations

from DeepIterRegSlicer.nodes.frames import sequenceOf
from DeepIterRegSlicer.nodes.transforms import Node

HELPER = "DeepIterReg.Helper"  # on such a node: what it is


def mark(node: Node, role: str, listed: bool = False) -> None:
    """Say of a node that it helps to show a registration; selectors and editors leave it out.

    :param listed: it stays in Slicer's lists, as a run does, which a person may want to play or save; only ours leave it out.
    """
    if node is None:
        return
    if node.GetAttribute(HELPER) != role:
        node.SetAttribute(HELPER, role)
    if not listed and not node.GetHideFromEditors():
        node.SetHideFromEditors(True)


def isHelper(node: Node) -> bool:
    """Whether a node only shows a registration."""
    if node is None:
        return False
    # The attributes of a volume that shows a run change with the frame; its sequence keeps them.
    return any(each.GetAttribute(HELPER) is not None for each in (node, sequenceOf(node)) if each is not None)
