"""Which vessels fill with contrast after an injection, when, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from DeepIterRegLib.phantom.centrelines import EXTERNAL, TERRITORIES, Centrelines
from DeepIterRegLib.phantom.settings import Injection, Range, RunSettings

# Speed of blood, mm/s: of the thinnest vessel, and what each mm of radius adds. A carotid of 2.2 mm gets 380, a sinus of 4 mm 160,
# about what Doppler ultrasound measures.
_ARTERY_SPEED, _ARTERY_SPEED_PER_MM = 120.0, 120.0
_VEIN_SPEED, _VEIN_SPEED_PER_MM = 60.0, 25.0
_TIP_SHARE: Range = (0.45, 0.7)  # how far up the artery of the neck the catheter's tip stands
_REFLUX_S = 0.02  # contrast fills the artery a little below the tip too
_BASILAR_DILUTION: Range = (0.5, 0.75)  # the other vertebral brings blood without contrast
# Beyond an occlusion: nothing in half of the patients, else what collaterals bring, later and more slowly.
_COLLATERAL_SHARE, _COLLATERAL_STRENGTH, _COLLATERAL_SPREAD = 0.5, (0.1, 0.4), (0.3, 1.2)
_COLLATERAL_DELAY_S: Range = (1.5, 3.0)
_RISE_S, _COLLATERAL_RISE_S, _VEIN_RISE_S = (1.2, 2.0), 2.5, (2.2, 3.2)  # each bed on the way smears the bolus
# From arterial to venous tips: veins show 3 to 5 s after the arteries.
_TRANSIT_S, _TRANSIT_DEVIATION_S = (2.6, 3.8), 0.5
_DRAINED_TIPS = 4  # arterial tips around a venous one that it drains
_SHARED_SAGITTAL: Range = (0.15, 0.4)  # of the sagittal sinus's flow, to the lesser transverse sinus
_CLEAN_VEIN_STRENGTH = 0.3  # where everything is to be seen: at least this


@dataclass(frozen=True)
class Filling:
    """Contrast in every node of `Centrelines`.

    Attributes
    ----------
    arrival_s : (N,)
        Seconds from the injection; meaningless where `strength` is 0.
    strength : (N,)
        Peak concentration relative to undiluted arterial contrast.
    rise_s : (N,)
        Arrival to peak.
    """

    arrival_s: np.ndarray
    strength: np.ndarray
    rise_s: np.ndarray

    def at(self, time_s: float) -> np.ndarray:
        """(N,) concentration `time_s` after the injection: gamma variate."""
        return self.strength * gamma_variate((time_s - self.arrival_s) / self.rise_s)


def gamma_variate(x: np.ndarray, sharpness: float = 2.5) -> np.ndarray:
    """Bolus curve (...) over times (...) in units of the rise: 0 before x = 0, 1 at x = 1, then washing out."""
    x = np.maximum(x, 0.0)
    return np.asarray(x**sharpness * np.exp(sharpness * (1 - x)))


def fill(
    vessels: Centrelines, injection: Injection, occluded: np.ndarray, rng: np.random.Generator, settings: RunSettings
) -> Filling:
    """Arteries of the injected territory by path length, then the veins that drain them, mixed with unopacified blood.

    Parameters
    ----------
    vessels
    injection
    occluded : (N,) bool
        Nodes that contrast reaches by collaterals at most.
    rng, settings
    """
    count = len(vessels.parent)
    path = vessels.from_root(vessels.length_mm / (_ARTERY_SPEED + _ARTERY_SPEED_PER_MM * vessels.radius_mm))  # seconds
    if injection == "everything":
        filled = np.ones(count, dtype=bool)
        tip_path = 0.0
    else:
        filled = vessels.territory == TERRITORIES.index(injection)
        start = vessels.named(
            "vertebral" if injection == "vertebrobasilar" else f"{injection.split('_')[0]}_ICA_cervical"
        )
        start &= vessels.points_mm[:, 2] < np.quantile(vessels.points_mm[start, 2], rng.uniform(*_TIP_SHARE))
        tip_path = float(path[start].max())
        filled &= (path > tip_path - _REFLUX_S) & ~vessels.named("other_vertebral")
    filled &= ~vessels.vein
    arrival = np.where(filled, np.maximum(path - tip_path, 0.0), 0.0)
    dilution = rng.uniform(*_BASILAR_DILUTION) if injection == "vertebrobasilar" else 1.0
    strength = np.where(filled & ~occluded, dilution, 0.0)
    collateral = rng.uniform(*_COLLATERAL_STRENGTH) if rng.random() < _COLLATERAL_SHARE else 0.0
    strength[filled & occluded] = collateral * np.minimum(1.0, rng.uniform(*_COLLATERAL_SPREAD))
    arrival[filled & occluded] += rng.uniform(*_COLLATERAL_DELAY_S)
    rise = np.where(occluded, _COLLATERAL_RISE_S, rng.uniform(*_RISE_S))
    return _drain(vessels, Filling(arrival, strength, rise), rng, settings, injection)


def _drain(
    vessels: Centrelines, arterial: Filling, rng: np.random.Generator, settings: RunSettings, injection: Injection
) -> Filling:
    """Each venous tip drains the arterial tips around it; on the way to the heart, flows add up and mix."""
    vein, tip = vessels.vein, vessels.children_count == 0
    artery_tips = np.flatnonzero(tip & ~vein & (vessels.territory != EXTERNAL))
    vein_tips = np.flatnonzero(tip & vein)
    _, nearest = cKDTree(vessels.points_mm[artery_tips]).query(vessels.points_mm[vein_tips], k=_DRAINED_TIPS)
    near = artery_tips[nearest]
    weight = np.minimum(arterial.strength[near], 1.0)
    transit = rng.uniform(*_TRANSIT_S)
    # Summed up from the tips: flow, flow of contrast, and that times its arrival, whose quotient is the mean arrival.
    flow, contrast, moment = (np.zeros(len(vein)) for _ in range(3))
    flow[vein_tips] = 1.0
    contrast[vein_tips] = weight.mean(axis=1)
    moment[vein_tips] = (weight * arterial.arrival_s[near]).mean(axis=1) + contrast[vein_tips] * (
        transit + rng.normal(0, _TRANSIT_DEVIATION_S, len(vein_tips))
    )
    sagittal = np.flatnonzero(vessels.named("superior_sagittal"))
    outlet = int(vessels.parent[sagittal[0]])
    ends = [int(np.flatnonzero(vessels.named(f"{side}_transverse"))[-1]) for side in ("left", "right")]
    lesser = next(e for e in ends if e != outlet)
    share = rng.uniform(*_SHARED_SAGITTAL)
    delay = vessels.length_mm / (_VEIN_SPEED + _VEIN_SPEED_PER_MM * vessels.radius_mm)
    shared = False
    for n in range(len(vein) - 1, -1, -1):  # parents have smaller numbers
        if not vein[n]:
            continue
        if n in ends and not shared:  # the confluence: part of the sagittal flow goes to the lesser side
            shared = True
            first = sagittal[0]
            given = share * np.array([flow[first], contrast[first], moment[first]])
            for target, sign in ((lesser, 1.0), (outlet, -1.0)):
                flow[target] += sign * given[0]
                contrast[target] += sign * given[1]
                moment[target] += sign * given[2]
        p = vessels.parent[n]
        if p >= 0:
            flow[p] += flow[n]
            contrast[p] += contrast[n]
            moment[p] += moment[n] + contrast[n] * delay[n]
    arrival, strength, rise = arterial.arrival_s.copy(), arterial.strength.copy(), arterial.rise_s.copy()
    opaque = vein & (contrast > 1e-6)
    strength[vein] = 0.0
    strength[opaque] = rng.uniform(*settings.vein_fraction) * contrast[opaque] / flow[opaque]
    if injection == "everything":
        strength[vein] = np.maximum(strength[vein], _CLEAN_VEIN_STRENGTH)
    arrival[opaque] = moment[opaque] / contrast[opaque]
    rise[vein] = rng.uniform(*_VEIN_RISE_S)
    return Filling(arrival, strength, rise)
