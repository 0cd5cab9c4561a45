"""CPU kernel of the ray caster for dense volumes: Joseph's line integrals and their derivatives to both ends of the ray.

A ray is sampled where it crosses the voxel planes of the axis that it follows most, interpolated bilinearly within the
plane (Joseph, IEEE Trans. Med. Imaging 1:192, 1982). With ends p, q in voxel indices, m that axis, D = q - p and
t_k = (k - p_m) / D_m, the integral is  L / |D_m| * sum over planes k of f(p + t_k D),  L the length p to q in mm.
"""

from __future__ import annotations

import math

import numba as nb

from DeepIterRegLib.common.compiler import njit

FAST = {"cache": True, "fastmath": True, "nogil": True}
_ALONG_PLANE = (
    1e-9  # voxels a plane: a ray that changes by less stays where it starts, and dividing by it means nothing
)
_FAR = 1e6  # voxels: bounds that lie further away are none; they must fit an integer


@njit(**FAST)
def _crossed(start, step, low, high, count):  # type: ignore[no-untyped-def]
    """The planes low..high at which 0 <= start + k step < count - 1."""
    if abs(step) > _ALONG_PLANE:
        one, other = -start / step, (count - 1 - start) / step
        low = max(low, int(math.ceil(max(min(one, other), -1.0))))
        high = min(high, int(math.floor(min(max(one, other), _FAR))))
    # Rounding may leave the ends a plane off; reading beyond the volume must not happen.
    while low <= high and not (start + low * step >= 0 and start + low * step < count - 1):
        low += 1
    while low <= high and not (start + high * step >= 0 and start + high * step < count - 1):
        high -= 1
    return low, high


@njit(parallel=True, **FAST)
def joseph(voxels, strides, counts, first, last, length_mm, values, slopes):  # type: ignore[no-untyped-def]
    """Integrals (N,) of N lines, and where `slopes` has N rows their derivatives (N, 6) to `first` and `last`.

    voxels, flat, of a volume with a frame of one voxel of 0; its strides (3,) and counts (3,) along i, j, k; first, last
    (N, 3), indices i, j, k of that volume, on the line at both sides of it; length_mm from one to the other, the same for all.
    """
    with_slopes = slopes.shape[0] > 0
    kind = voxels.dtype.type
    for ray in nb.prange(first.shape[0]):
        d = (last[ray, 0] - first[ray, 0], last[ray, 1] - first[ray, 1], last[ray, 2] - first[ray, 2])
        m = 0
        if abs(d[1]) > abs(d[m]):
            m = 1
        if abs(d[2]) > abs(d[m]):
            m = 2
        a, b = (m + 1) % 3, (m + 2) % 3
        sm, sa, sb = strides[m], strides[a], strides[b]
        step_a, step_b = d[a] / d[m], d[b] / d[m]
        start_a = first[ray, a] - first[ray, m] * step_a
        start_b = first[ray, b] - first[ray, m] * step_b
        low, high = _crossed(start_a, step_a, 1, counts[m] - 2, counts[a])
        low, high = _crossed(start_b, step_b, low, high, counts[b])
        zero = kind(0)
        total, ga, gb, ka, kb = zero, zero, zero, zero, zero
        for k in range(low, high + 1):
            pa, pb = start_a + k * step_a, start_b + k * step_b
            ia, ib = int(pa), int(pb)
            wa, wb = kind(pa - ia), kind(pb - ib)
            at = k * sm + ia * sa + ib * sb
            v00, v01, v10, v11 = voxels[at], voxels[at + sb], voxels[at + sa], voxels[at + sa + sb]
            near, far = v00 + wb * (v01 - v00), v10 + wb * (v11 - v10)
            total += near + wa * (far - near)
            if with_slopes:
                fa = far - near
                fb = (v01 - v00) + wa * ((v11 - v10) - (v01 - v00))
                ga += fa
                gb += fb
                ka += kind(k) * fa
                kb += kind(k) * fb
        scale = length_mm / abs(d[m])
        values[ray] = scale * total
        if with_slopes:
            # Sums over planes of derivative x t, with t = (k - p_m) / D_m.
            ta, tb = (ka - first[ray, m] * ga) / d[m], (kb - first[ray, m] * gb) / d[m]
            slopes[ray, a] = scale * (ga - ta)
            slopes[ray, b] = scale * (gb - tb)
            slopes[ray, 3 + a] = scale * ta
            slopes[ray, 3 + b] = scale * tb
            slopes[ray, m] = scale * (step_a * (ta - ga) + step_b * (tb - gb) + total / d[m])
            slopes[ray, 3 + m] = -scale * (step_a * ta + step_b * tb + total / d[m])
