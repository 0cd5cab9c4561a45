"""Paper B's chart of the pose: the C-arm moves on a sphere about the object (B, Fig. 3)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.geometry.carm import CArm
from DeepIterRegLib.geometry.pose import matrix, transform


class Spherical(NamedTuple):
    """B's parameters, each (...,); radians and mm.

    rho_mm: half the source to detector distance. theta: cranial positive. phi: LAO positive.
    gamma: turn of the detector in its plane, from column axis to row axis.
    bx_mm, by_mm, bz_mm: centre of the volume relative to the isocentre, in the volume's axes.
    """

    rho_mm: Array
    theta: Array
    phi: Array
    gamma: Array
    bx_mm: Array
    by_mm: Array
    bz_mm: Array


def _detector_axes(theta: Array, phi: Array, gamma: Array) -> Array:
    """Rows u, v, d (..., 3, 3) of a C-arm at these angles."""
    xp = namespace(theta)
    sa, ca, sb, cb, sg, cg = xp.sin(phi), xp.cos(phi), xp.sin(theta), xp.cos(theta), xp.sin(gamma), xp.cos(gamma)
    o = xp.zeros_like(sa)
    u = xp.stack([-ca, -sa, o], axis=-1)
    v = xp.stack([-sa * sb, ca * sb, -cb], axis=-1)
    d = xp.stack([-sa * cb, ca * cb, sb], axis=-1)
    return xp.stack([cg[..., None] * u + sg[..., None] * v, cg[..., None] * v - sg[..., None] * u, d], axis=-2)


def _unmirrored_axes(carm: CArm) -> np.ndarray:
    """Rows u, v, d (3, 3), u reversed where the stored image is mirrored: no rigid pose leads to a mirrored detector."""
    handedness = -np.sign(np.linalg.det(carm.axes))  # u x v = -d where the image is seen from the detector
    return carm.axes * np.array([[handedness], [1.0], [1.0]])


def to_pose(spherical: Spherical, carm: CArm, centre_cta_mm: Array) -> Array:
    """``cta_to_carm`` (..., 4, 4) that gives in `carm` the image the spherical C-arm would take.

    Where `carm` stores its image mirrored, that image mirrored left-right.
    """
    xp = namespace(spherical.theta)
    axes = _detector_axes(spherical.theta, spherical.phi, spherical.gamma)
    rotation = like(_unmirrored_axes(carm).T, axes) @ axes
    offset = xp.stack([spherical.bx_mm, spherical.by_mm, spherical.bz_mm], axis=-1) - like(centre_cta_mm, axes)
    return matrix(rotation, (rotation @ offset[..., None])[..., 0])


def from_pose(pose: Array, carm: CArm, centre_cta_mm: Array) -> Spherical:
    """Inverse of `to_pose`; rho is the C-arm's."""
    xp = namespace(pose)
    rotation = pose[..., :3, :3]
    axes = like(_unmirrored_axes(carm), pose) @ rotation
    d, u = axes[..., 2, :], axes[..., 0, :]
    theta = xp.asin(xp.clip(d[..., 2], -1.0, 1.0))
    phi = xp.atan2(-d[..., 0], d[..., 1])
    level = _detector_axes(theta, phi, xp.zeros_like(phi))
    gamma = xp.atan2(xp.sum(u * level[..., 1, :], axis=-1), xp.sum(u * level[..., 0, :], axis=-1))
    centre = transform(pose, like(centre_cta_mm, pose)[None, :])
    b = (xp.linalg.matrix_transpose(rotation) @ centre[..., 0, :, None])[..., 0]
    rho = xp.zeros_like(theta) + carm.sid_mm / 2
    return Spherical(rho, theta, phi, gamma, b[..., 0], b[..., 1], b[..., 2])
