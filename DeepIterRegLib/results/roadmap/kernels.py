"""CPU kernels of the roadmap: triangles and thick lines into an image of depths; the nearest to the detector wins.

Pixels are tested at their centres. A bucket of rows is one job, so that no two jobs write to a pixel.
Depth is measured from the source along the beam; its inverse is linear on the detector.
"""

from __future__ import annotations

import math

import numba as nb

from DeepIterRegLib.common.compiler import njit

# No fastmath in the two that draw: it takes for granted that no value is not-a-number, and points behind the source
# are.
FAST = {"cache": True, "nogil": True}


@njit(parallel=True, **FAST)
def draw_triangles(vertices, triangles, depths, buckets):  # type: ignore[no-untyped-def]
    """Greatest depth of any triangle at each pixel's centre.

    vertices (N, 3): column, row, depth mm (not-a-number behind the source: the triangle is left out);
    triangles (M, 3) indices; depths (rows, columns), filled with 0 before, in place.
    """
    rows, columns = depths.shape
    for bucket in nb.prange(buckets):
        first, last = bucket * rows // buckets, (bucket + 1) * rows // buckets - 1
        for t in range(triangles.shape[0]):
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ya, yb, yc = vertices[a, 1], vertices[b, 1], vertices[c, 1]
            low, high = min(ya, yb, yc), max(ya, yb, yc)
            # Written so that a triangle with not-a-number is left out.
            if not (high >= first and low <= last):
                continue
            xa, xb, xc = vertices[a, 0], vertices[b, 0], vertices[c, 0]
            area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
            left, right = min(xa, xb, xc), max(xa, xb, xc)
            if not (right >= 0 and left <= columns - 1) or area == 0.0 or not math.isfinite(area):
                continue
            ia, ib, ic = 1 / vertices[a, 2], 1 / vertices[b, 2], 1 / vertices[c, 2]
            # Inverse depth as a plane over the detector.
            gx = ((ib - ia) * (yc - ya) - (ic - ia) * (yb - ya)) / area
            gy = ((ic - ia) * (xb - xa) - (ib - ia) * (xc - xa)) / area
            for row in range(max(first, int(math.ceil(low))), min(last, int(math.floor(high))) + 1):
                # Where the row's line enters and leaves the triangle.
                enter, leave = math.inf, -math.inf
                for edge in range(3):
                    if edge == 0:
                        x0, y0, x1, y1 = xa, ya, xb, yb
                    elif edge == 1:
                        x0, y0, x1, y1 = xb, yb, xc, yc
                    else:
                        x0, y0, x1, y1 = xc, yc, xa, ya
                    # An edge along the row has no one place where the row crosses it.
                    if y0 == y1:
                        if y0 == row:
                            enter, leave = min(enter, x0, x1), max(leave, x0, x1)
                        continue
                    s = (row - y0) / (y1 - y0)
                    if 0 <= s <= 1:
                        x = x0 + s * (x1 - x0)
                        enter, leave = min(enter, x), max(leave, x)
                if enter > leave:
                    continue
                for column in range(max(0, int(math.ceil(enter))), min(columns - 1, int(math.floor(leave))) + 1):
                    depth = 1 / (ia + gx * (column - xa) + gy * (row - ya))
                    if depth > depths[row, column]:
                        depths[row, column] = depth


@njit(parallel=True, **FAST)
def draw_capsules(ends, depths, buckets):  # type: ignore[no-untyped-def]
    """Thick lines with round ends, whose radius goes evenly from one end to the other.

    ends (M, 2, 4): column, row, depth mm, radius px of both ends; the same end twice is a disc. depths as in `draw_triangles`.
    """
    rows, columns = depths.shape
    for bucket in nb.prange(buckets):
        first, last = bucket * rows // buckets, (bucket + 1) * rows // buckets - 1
        for t in range(ends.shape[0]):
            xa, ya, za, ra = ends[t, 0, 0], ends[t, 0, 1], ends[t, 0, 2], ends[t, 0, 3]
            xb, yb, zb, rb = ends[t, 1, 0], ends[t, 1, 1], ends[t, 1, 2], ends[t, 1, 3]
            radius = max(ra, rb)
            low, high = min(ya, yb) - radius, max(ya, yb) + radius
            left, right = min(xa, xb) - radius, max(xa, xb) + radius
            if not (high >= first and low <= last and right >= 0 and left <= columns - 1):
                continue
            dx, dy = xb - xa, yb - ya
            squared = dx * dx + dy * dy
            for row in range(max(first, int(math.ceil(low))), min(last, int(math.floor(high))) + 1):
                for column in range(max(0, int(math.ceil(left))), min(columns - 1, int(math.floor(right))) + 1):
                    s = 0.0 if squared == 0.0 else ((column - xa) * dx + (row - ya) * dy) / squared
                    s = min(max(s, 0.0), 1.0)
                    ox, oy = column - xa - s * dx, row - ya - s * dy
                    r = ra + s * (rb - ra)
                    if ox * ox + oy * oy > r * r:
                        continue
                    # Not the mean of the depths: lengths on the detector shrink with distance, so only their inverse
                    # goes evenly.
                    depth = 1 / ((1 - s) / za + s / zb)
                    if depth > depths[row, column]:
                        depths[row, column] = depth


@njit(parallel=True, fastmath=True, **FAST)
def blend(depths, colour, opacity, edge_px, darkest, near, far, picture):  # type: ignore[no-untyped-def]
    """Lay what is drawn (depths > 0) over a picture (rows, columns, 4) float32: red, green, blue times alpha, alpha.

    colour (3,) 0..255; edge_px: only pixels so near to one where nothing is drawn, 0 for all; brightness falls from 1 at
    depth `far` (the detector) to `darkest` at depth `near`. The picture's own border is no edge.
    """
    rows, columns = depths.shape
    for row in nb.prange(rows):
        for column in range(columns):
            depth = depths[row, column]
            if depth <= 0:
                continue
            if edge_px > 0:
                inside = True
                for r in range(max(0, row - edge_px), min(rows - 1, row + edge_px) + 1):
                    for c in range(max(0, column - edge_px), min(columns - 1, column + edge_px) + 1):
                        if depths[r, c] <= 0:
                            inside = False
                            break
                    if not inside:
                        break
                if inside:
                    continue
            a = nb.float32(opacity)
            share = min(max((depth - near) / (far - near), nb.float32(0)), nb.float32(1))
            brightness = darkest + (1 - darkest) * share
            for k in range(3):
                picture[row, column, k] = colour[k] * brightness * a + picture[row, column, k] * (1 - a)
            picture[row, column, 3] = a + picture[row, column, 3] * (1 - a)


@njit(parallel=True, fastmath=True, **FAST)
def straight(picture, rgba):  # type: ignore[no-untyped-def]
    """A picture of `blend` as (rows, columns, 4) uint8, alpha not multiplied in."""
    rows, columns = picture.shape[:2]
    for row in nb.prange(rows):
        for column in range(columns):
            a = picture[row, column, 3]
            for k in range(3):
                rgba[row, column, k] = int(picture[row, column, k] / a + 0.5) if a > 0 else 0
            rgba[row, column, 3] = int(255 * a + 0.5)


@njit(parallel=True, fastmath=True, **FAST)
def over_grey(grey, rgba, rgb):  # type: ignore[no-untyped-def]
    """A layer (rows, columns, 4) over a grey image (rows, columns), both uint8."""
    rows, columns = grey.shape
    for row in nb.prange(rows):
        for column in range(columns):
            g, a = nb.float32(grey[row, column]), rgba[row, column, 3] * nb.float32(1 / 255)
            for k in range(3):
                rgb[row, column, k] = int(g + (rgba[row, column, k] - g) * a + nb.float32(0.5))
