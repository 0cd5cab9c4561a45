"""All vessels of one head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from DeepIterRegLib.phantom.anatomy.anterior import anterior_cerebral, carotid, middle_cerebral
from DeepIterRegLib.phantom.anatomy.cortical import cortical_arteries
from DeepIterRegLib.phantom.anatomy.external import external_carotid
from DeepIterRegLib.phantom.anatomy.pen import SIDES, Pen
from DeepIterRegLib.phantom.anatomy.posterior import posterior_cerebral, posterior_circulation
from DeepIterRegLib.phantom.anatomy.surfaces import cortex, waves
from DeepIterRegLib.phantom.anatomy.veins import veins
from DeepIterRegLib.phantom.centrelines import EXTERNAL, Centrelines, Sketch

# All vessels are bent together, by about this much over such wavelengths, so that no two heads are alike even where their control
# points are: more would push arteries through the skull base.
_BEND_MM = 1.3
_BEND_WAVELENGTH_MM = (60.0, 130.0)


def head_vessels(rng_arteries: np.random.Generator, rng_veins: np.random.Generator) -> Centrelines:
    """Arteries and veins of one head in the canonical frame (RAS mm)."""
    sketch = Sketch()
    surfaces = {side.name: cortex(side.sign, rng_arteries) for side in SIDES}
    basilar_tip = posterior_circulation(sketch, rng_arteries)
    # The left hemisphere comes first: the right one's anterior communicating artery joins them.
    for side in SIDES:
        pen = Pen(sketch, rng_arteries, side.territory, side.sign)
        internal = carotid(pen, side)
        posterior_cerebral(pen, side, internal.communicating_origin, basilar_tip)
        middle_cerebral(pen, side, internal.end)
        anterior_cerebral(pen, side, internal.end)
    cortical_arteries(sketch, rng_arteries, surfaces)
    for side in SIDES:
        external_carotid(Pen(sketch, rng_arteries, EXTERNAL, side.sign), side)
    veins(sketch, rng_veins, surfaces)
    vessels = sketch.finished()
    bend = np.column_stack([waves(vessels.points_mm, rng_arteries, _BEND_WAVELENGTH_MM) for _ in range(3)])
    return replace(vessels, points_mm=vessels.points_mm + _BEND_MM * bend)
