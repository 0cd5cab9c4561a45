"""Vessel trees as centrelines, and the two ways to lengthen them: a laid-out path, a tree grown over a surface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

LEFT_ICA, RIGHT_ICA, VERTEBROBASILAR, EXTERNAL, VENOUS = range(5)
TERRITORIES = ("left_ica", "right_ica", "vertebrobasilar", "external", "venous")

# Parent radius to this power is the sum of the children's: cerebral arteries lie between 2.5 and 3.
MURRAY_EXPONENT = 2.7
STEP_MM = 1.0  # between nodes: tubes as short as voxels are wide follow every bend

# How laid-out vessels wind: a sine on each axis, none at the ends, where neighbours must meet.
_WINDING_MM = (14, 36)  # wavelengths
_CONTROL_OVER_WINDING = 2.5  # control points wander by so much more than the course between them
_WINDING_ONSET_MM = 5.0
_ACROSS_WANDERS_LESS = np.array([0.7, 1.0, 1.0])  # x: vessels near the midline must stay on their side

# How trees grow. More neighbours than a surface has (6) let branches cross folds; edges longer than the spacing cost more than their
# share, so that branches stay on the surface.
_NEIGHBOURS = 8
_COST_POWER = 1.3
_SMOOTHING_ROUNDS = 2
_BRANCH_SHARE = 0.85  # of the parent's radius: no branch is thicker


@dataclass(frozen=True)
class Centrelines:
    """All vessels of one head: node n and its parent are the ends of tube n.

    Attributes
    ----------
    points_mm : (N, 3)
        RAS mm, of the CTA in a `Patient`.
    radius_mm : (N,)
    parent : (N,) int32
        Index of the node nearer to the heart, always smaller than n; -1 at roots.
    territory : (N,) int8
        LEFT_ICA, RIGHT_ICA, VERTEBROBASILAR, EXTERNAL or VENOUS.
    segment : (N,) int16
        Index into `segments`.
    segments : tuple of str
        Names such as "M1", "left_transverse", "cortical_vein".
    """

    points_mm: np.ndarray
    radius_mm: np.ndarray
    parent: np.ndarray
    territory: np.ndarray
    segment: np.ndarray
    segments: tuple[str, ...]

    @property
    def vein(self) -> np.ndarray:
        """(N,) bool: nodes of veins."""
        return self.territory == VENOUS

    @property
    def children_count(self) -> np.ndarray:
        """(N,) number of tubes that start at each node; 0 at tips."""
        return np.bincount(self.parent[self.parent >= 0], minlength=len(self.parent))

    @property
    def length_mm(self) -> np.ndarray:
        """(N,) length of each tube; 0 at roots."""
        lengths = np.linalg.norm(self.points_mm - self.points_mm[self.parent], axis=1)
        return np.where(self.parent >= 0, lengths, 0.0)

    def named(self, segment: str) -> np.ndarray:
        """(N,) bool: nodes of a segment."""
        return self.segment == (self.segments.index(segment) if segment in self.segments else -1)

    def downstream(self, node: int) -> np.ndarray:
        """(N,) bool: the node and everything beyond it, seen from the heart."""
        inside = np.zeros(len(self.parent), dtype=bool)
        inside[node] = True
        for n in range(node + 1, len(self.parent)):
            inside[n] = self.parent[n] >= 0 and inside[self.parent[n]]
        return inside

    def from_root(self, per_node: np.ndarray) -> np.ndarray:
        """(N,) sum of `per_node` (N,) along the path from the root, both ends included."""
        total = np.array(per_node, dtype=np.float64)
        for n, p in enumerate(self.parent):
            if p >= 0:
                total[n] += total[p]
        return total

    def moved(self, affine: np.ndarray) -> Centrelines:
        """The same vessels in another frame, by an affine (4, 4); radii keep their mm."""
        return replace(self, points_mm=self.points_mm @ affine[:3, :3].T + affine[:3, 3])


@dataclass
class Sketch:
    """Vessels while they are being laid out: lists with an entry a node, as `Centrelines` has arrays.

    Attributes
    ----------
    points
        Positions (3,), canonical frame (RAS mm).
    radius
        mm.
    parent, territory, segment
        As `Centrelines`.
    segments
        Names, in the order of their first use.
    """

    points: list[np.ndarray] = field(default_factory=list)
    radius: list[float] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    territory: list[int] = field(default_factory=list)
    segment: list[int] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)

    def append(
        self, points: np.ndarray, radius: np.ndarray, parent: np.ndarray, territory: int, segment: str
    ) -> np.ndarray:
        """Add nodes (M, 3) with radii (M,), mm, whose parents (M,) are indices of the sketch; returns their indices (M,)."""
        if segment not in self.segments:
            self.segments.append(segment)
        first = len(self.points)
        self.points.extend(points)
        self.radius.extend(float(r) for r in radius)
        self.parent.extend(int(p) for p in parent)
        self.territory.extend([territory] * len(points))
        self.segment.extend([self.segments.index(segment)] * len(points))
        return np.arange(first, len(self.points))

    def nodes(self, segment: str) -> np.ndarray:
        """Indices (M,) of a segment's nodes, in the order of laying."""
        number = self.segments.index(segment)
        return np.flatnonzero(np.array(self.segment) == number)

    def last(self, segment: str) -> int:
        """The node of a segment that was laid last."""
        return int(self.nodes(segment)[-1])

    def finished(self) -> Centrelines:
        """As arrays."""
        return Centrelines(
            np.array(self.points, dtype=np.float64),
            np.array(self.radius, dtype=np.float64),
            np.array(self.parent, dtype=np.int32),
            np.array(self.territory, dtype=np.int8),
            np.array(self.segment, dtype=np.int16),
            tuple(self.segments),
        )


def lay(
    sketch: Sketch,
    rng: np.random.Generator,
    parent: int,
    control_mm: Sequence[ArrayLike],
    radii_mm: tuple[float, float],
    territory: int,
    segment: str,
    wander_mm: float = 1.0,
) -> np.ndarray:
    """A smooth tube through control points, leaving from node `parent` (-1: a new root).

    Control points wander by a normal deviate of `wander_mm` and the course between them winds by a fraction
    of it; the radius tapers linearly.

    Parameters
    ----------
    sketch, rng
    parent
        Index of a node.
    control_mm : (N, 3)
        Canonical frame (RAS mm), without the parent.
    radii_mm
        At the first and the last node.
    territory, segment
        As `Centrelines`; the segment by its name.
    wander_mm

    Returns
    -------
    (M,) int
        The new nodes' indices, in order.
    """
    control = np.array(control_mm, dtype=np.float64)
    control = control + rng.normal(0, wander_mm, control.shape) * _ACROSS_WANDERS_LESS
    if parent >= 0:
        control = np.vstack([sketch.points[parent], control])
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(control, axis=0), axis=1))])
    n = max(2, round(chord[-1] / max(STEP_MM, 0.5 * max(radii_mm))) + 1)  # thick vessels need fewer nodes
    s = np.linspace(0, chord[-1], n)
    points = CubicSpline(chord, control)(s)
    wavelengths = rng.uniform(*_WINDING_MM, 3)
    phases = 2 * np.pi * (s[:, None] / wavelengths + rng.random(3))
    winding = np.sin(phases) * rng.normal(0, wander_mm / _CONTROL_OVER_WINDING, 3)
    points = points + winding * np.minimum(1.0, np.minimum(s, s[-1] - s) / _WINDING_ONSET_MM)[:, None]
    radius = np.linspace(*radii_mm, n)
    if parent >= 0:
        points, radius = points[1:], radius[1:]
    first = len(sketch.points)
    chain = np.concatenate([[parent], np.arange(first, first + len(points) - 1)])
    return sketch.append(points, radius, chain, territory, segment)


def grow(
    sketch: Sketch,
    rng: np.random.Generator,
    roots: np.ndarray,
    surface_mm: np.ndarray,
    tips: int,
    tip_radius_mm: float,
    territory: int,
    segment: str,
    roughness: float = 0.6,
) -> np.ndarray:
    """Branches from `roots` (nodes of the sketch) over scattered surface points to evenly spread tips.

    Shortest paths over a neighbour graph with random edge costs merge like rivers, which gives branching;
    radii follow Murray's law from the tips.

    Parameters
    ----------
    sketch, rng
    roots : (R,) int
        Nodes that branches may leave.
    surface_mm : (N, 3)
        Canonical frame (RAS mm).
    tips
        How many ends there are.
    tip_radius_mm
        Of the vessels that end; others are thicker.
    territory, segment
        As `Centrelines`; the segment by its name.
    roughness
        Deviation of the logarithm of an edge's cost: more makes courses more winding.

    Returns
    -------
    (M,) int
        The new nodes' indices.
    """
    root_points = np.array([sketch.points[r] for r in roots])
    nodes = np.vstack([root_points, surface_mm])
    n_roots = len(roots)
    cost_to, previous = _cheapest_ways(nodes, n_roots, roughness, rng)
    reachable = np.flatnonzero(np.isfinite(cost_to[n_roots:])) + n_roots
    targets = reachable[_spread(nodes[reachable], tips, rng)]

    carried = np.zeros(len(nodes))  # how many tips lie beyond a node
    for target in targets:
        n = target
        while n >= n_roots:
            carried[n] += 1
            n = previous[n]
    used = np.flatnonzero(carried)
    used = used[np.argsort(cost_to[used])]
    up = previous[used]
    position = _relaxed(nodes, used, up)
    limit = np.array([sketch.radius[r] for r in roots]) * _BRANCH_SHARE
    radius_at = np.maximum(tip_radius_mm * np.maximum(carried, 1) ** (1 / MURRAY_EXPONENT), tip_radius_mm)
    root_of = np.arange(len(nodes))
    index = {i: int(r) for i, r in enumerate(roots)}
    created = []
    for n, p, curve in _curves(position, carried, used, up, n_roots):
        root_of[n] = root_of[p]
        radius = np.full(len(curve), min(radius_at[n], max(limit[root_of[n]], tip_radius_mm)))
        first = len(sketch.points)
        chain = np.concatenate([[index[p]], np.arange(first, first + len(curve) - 1)])
        new = sketch.append(curve, radius, chain, territory, segment)
        index[n] = int(new[-1])
        created.append(new)
    return np.concatenate(created) if created else np.array([], dtype=np.int64)


def _cheapest_ways(
    nodes: np.ndarray, n_roots: int, roughness: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cost (N,) of the cheapest way from any root, which come first, to each node (N, 3), and the node (N,) before it."""
    distance, neighbour = cKDTree(nodes).query(
        nodes, k=min(_NEIGHBOURS + 1, len(nodes))
    )  # the nearest is the node itself
    a = np.repeat(np.arange(len(nodes)), neighbour.shape[1] - 1)
    b, d = neighbour[:, 1:].ravel(), distance[:, 1:].ravel()
    cost = d**_COST_POWER * np.exp(rng.normal(0, roughness, len(d)))
    graph = coo_matrix((cost, (a, b)), shape=(len(nodes), len(nodes))).tocsr()
    cost_to, previous, _ = dijkstra(
        graph, directed=False, indices=np.arange(n_roots), return_predecessors=True, min_only=True
    )
    return cost_to, previous


def _curves(
    position: np.ndarray, carried: np.ndarray, used: np.ndarray, up: np.ndarray, n_roots: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Each node used, the one above it, and points (M, 3) about `STEP_MM` apart from there to it.

    Cubic Hermite pieces: the child that carries most continues its parent's tangent, a side branch leaves along its own chord.
    """
    tree = list(zip(used.tolist(), up.tolist(), strict=True))
    main: dict[int, int] = {}
    for n, p in tree:
        if p not in main or carried[n] > carried[main[p]]:
            main[p] = n
    tangent = np.zeros_like(position)
    for n, p in tree:
        ahead = position[main[n]] if n in main else position[n]
        tangent[n] = (ahead - position[p]) * (0.5 if n in main else 1.0)
    for n, p in tree:
        length = float(np.linalg.norm(position[n] - position[p]))
        pieces = max(1, round(length / STEP_MM))
        t = np.arange(1, pieces + 1)[:, None] / pieces
        leave = tangent[p] if p >= n_roots and main[p] == n else position[n] - position[p]
        curve = (
            (2 * t**3 - 3 * t**2 + 1) * position[p]
            + (t**3 - 2 * t**2 + t) * leave
            + (3 * t**2 - 2 * t**3) * position[n]
            + (t**3 - t**2) * tangent[n]
        )
        yield n, p, curve


def _relaxed(nodes: np.ndarray, used: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Node positions (N, 3), smoothed along the tree, which removes the zigzag of the graph."""
    position = nodes.copy()
    for _ in range(_SMOOTHING_ROUNDS):
        total = np.zeros_like(position)
        count = np.zeros(len(position))
        np.add.at(total, up, position[used])
        np.add.at(count, up, 1)
        inner = used[count[used] > 0]
        parent_of = dict(zip(used, up, strict=True))
        above = position[[parent_of[n] for n in inner]]
        below = total[inner] / count[inner, None]
        position[inner] = 0.6 * position[inner] + 0.2 * above + 0.2 * below
    return position


def _spread(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `count` points far from each other (farthest point sampling on a random half)."""
    candidates = rng.permutation(len(points))[: max(count, len(points) // 2)]
    chosen = [int(candidates[0])]
    nearest = np.linalg.norm(points[candidates] - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(candidates)):
        best = int(np.argmax(nearest))
        chosen.append(int(candidates[best]))
        nearest = np.minimum(nearest, np.linalg.norm(points[candidates] - points[chosen[-1]], axis=1))
    return np.array(chosen)
