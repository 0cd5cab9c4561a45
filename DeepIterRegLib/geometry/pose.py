"""Rigid poses and their charts.

A pose is a homogeneous matrix (..., 4, 4) named by its frames: ``cta_to_carm`` maps RAS mm of the
CTA to RAS mm of the C-arm frame, ``x_carm = M x_cta`` (Resources/Docs/method.md, section 1). Everything here is
batched over leading axes and takes numpy or torch; the kind that comes in goes out.

Angles are radians here; names that end in ``_deg`` are degrees.
"""

from __future__ import annotations

import math

from DeepIterRegLib.geometry.arrays import Array, like, namespace, to_float


def matrix(rotation: Array, translation_mm: Array) -> Array:
    """Homogeneous matrix (..., 4, 4) from rotation (..., 3, 3) and translation (..., 3)."""
    xp = namespace(rotation, translation_mm)
    top = xp.concat([rotation, translation_mm[..., None]], axis=-1)
    row = xp.broadcast_to(like([0.0, 0.0, 0.0, 1.0], rotation), (*top.shape[:-2], 1, 4))
    return xp.concat([top, row], axis=-2)


def translation(translation_mm: Array) -> Array:
    """Homogeneous matrix (..., 4, 4) of a translation (..., 3) in mm."""
    xp = namespace(translation_mm)
    eye = xp.broadcast_to(like([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], translation_mm), (*translation_mm.shape, 3))
    return matrix(eye, translation_mm)


def inverse(pose: Array) -> Array:
    """Inverse of rigid matrices (..., 4, 4), by transposition."""
    xp = namespace(pose)
    rotation_t = xp.linalg.matrix_transpose(pose[..., :3, :3])
    return matrix(rotation_t, -(rotation_t @ pose[..., :3, 3:])[..., 0])


def transform(pose: Array, points_mm: Array) -> Array:
    """Points (..., N, 3) mapped by poses (..., 4, 4); leading axes broadcast."""
    xp = namespace(pose, points_mm)
    return points_mm @ xp.linalg.matrix_transpose(pose[..., :3, :3]) + pose[..., None, :3, 3]


def radiological(centre_cta_mm: Array) -> Array:
    """Radiological pose (..., 4, 4): the CTA's centre (..., 3) is put at the isocentre (Resources/Docs/method.md, section 1)."""
    return translation(-centre_cta_mm)


def offset_about(pose: Array, centre_cta_mm: Array, rotation: Array, translation_mm: Array) -> Array:
    """A pose moved in the C-arm frame, turning about a point of the head.

    Parameters
    ----------
    pose : (..., 4, 4)
        ``cta_to_carm`` before.
    centre_cta_mm : (..., 3)
        Point of the CTA that the rotation leaves in place, RAS mm of the CTA.
    rotation : (..., 3, 3)
    translation_mm : (..., 3)
        Both in C-arm RAS.

    Returns
    -------
    (..., 4, 4) ``cta_to_carm`` after.
    """
    centre = transform(pose, centre_cta_mm[..., None, :])[..., 0, :]
    moved = centre + translation_mm - (rotation @ centre[..., None])[..., 0]
    return matrix(rotation, moved) @ pose


def depth_reversed(pose: Array, centre_cta_mm: Array, source_mm: Array) -> Array:
    """Poses (..., 4, 4) from which a head alike on both sides casts nearly the same shadow (Necker reversal).

    The head is mirrored along the ray through its centre, which leaves a parallel projection as it is, and through its
    sagittal plane, taken to be the CTA's x = const through the centre, which leaves the head as it is; together they are a
    rotation. Seen from the side and turned by an angle, the head looks as if turned by the opposite one.

    Parameters
    ----------
    pose : (..., 4, 4)
        ``cta_to_carm``.
    centre_cta_mm : (3,)
        Stays where it is, RAS mm of the CTA.
    source_mm : (3,)
        Of the rays, C-arm RAS.
    """
    xp = namespace(pose)
    centre = transform(pose, centre_cta_mm[None])[..., 0, :]
    ray = centre - source_mm
    ray = ray / xp.sqrt(xp.sum(ray**2, axis=-1))[..., None]
    eye = like([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], pose)
    along_ray = eye - 2 * ray[..., :, None] * ray[..., None, :]
    rotation = along_ray @ pose[..., :3, :3] * like([-1.0, 1.0, 1.0], pose)
    return matrix(rotation, centre - (rotation @ centre_cta_mm[..., None])[..., 0])


def skew(vector: Array) -> Array:
    """Cross-product matrices (..., 3, 3) of vectors (..., 3): skew(a) @ b = a x b."""
    xp = namespace(vector)
    x, y, z = vector[..., 0], vector[..., 1], vector[..., 2]
    o = xp.zeros_like(x)
    rows = [xp.stack([o, -z, y], axis=-1), xp.stack([z, o, -x], axis=-1), xp.stack([-y, x, o], axis=-1)]
    return xp.stack(rows, axis=-2)


# Where the square of the angle is below this, closed forms of the charts lose digits and their gradients are 0 / 0; a few
# terms of their series are exact enough there.
_SMALL_SQUARED = 1e-4
_SMALL_VECTOR_SQUARED = 1e-10  # the same for the vector part of a quaternion, of which fewer terms are taken
_GIMBAL_COSINE = 1e-9  # of the middle Euler angle: below, only the sum of the other two is known


def _exp_coefficients(angle_squared: Array) -> tuple[Array, Array, Array]:
    """sin(t)/t, (1-cos t)/t^2 and (t-sin t)/t^3, by series where t is small so that gradients stay finite."""
    xp = namespace(angle_squared)
    small = angle_squared < _SMALL_SQUARED
    t2 = xp.where(small, like(1.0, angle_squared), angle_squared)
    t = xp.sqrt(t2)
    s = angle_squared
    a = xp.where(small, 1 - s / 6 + s * s / 120, xp.sin(t) / t)
    b = xp.where(small, 0.5 - s / 24 + s * s / 720, 2 * xp.sin(t / 2) ** 2 / t2)  # 1 - cos t would cancel in float32
    c = xp.where(small, 1 / 6 - s / 120 + s * s / 5040, (t - xp.sin(t)) / (t2 * t))
    return a, b, c


def so3_exp(rotation_vector: Array) -> Array:
    """Rotations (..., 3, 3) from rotation vectors (..., 3) in radians (Rodrigues)."""
    rotation_vector = to_float(rotation_vector)
    xp = namespace(rotation_vector)
    a, b, _ = _exp_coefficients(xp.sum(rotation_vector**2, axis=-1)[..., None, None])
    w = skew(rotation_vector)
    return like([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], rotation_vector) + a * w + b * (w @ w)


def so3_log(rotation: Array) -> Array:
    """Rotation vectors (..., 3), angle in [0, pi], from rotations (..., 3, 3)."""
    xp = namespace(rotation)
    quaternion = rotation_to_quaternion(rotation)
    vector, w = quaternion[..., :3], quaternion[..., 3:]
    squared = xp.sum(vector**2, axis=-1)[..., None]
    small = squared < _SMALL_VECTOR_SQUARED
    norm = xp.sqrt(xp.where(small, like(1.0, rotation), squared))
    near_one = xp.where(small, w, like(1.0, rotation))  # at half a turn w is 0
    series = 2 / near_one * (1 - squared / (3 * near_one * near_one))
    scale = xp.where(small, series, 2 * xp.atan2(norm, w) / norm)
    return vector * scale


def se3_exp(twist: Array) -> Array:
    """Poses (..., 4, 4) from twists (..., 6): rotation vector in radians, then the linear part in mm."""
    twist = to_float(twist)
    xp = namespace(twist)
    rotation_vector, linear = twist[..., :3], twist[..., 3:]
    _, b, c = _exp_coefficients(xp.sum(rotation_vector**2, axis=-1)[..., None, None])
    w = skew(rotation_vector)
    left = like([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], twist) + b * w + c * (w @ w)
    return matrix(so3_exp(rotation_vector), (left @ linear[..., None])[..., 0])


def se3_log(pose: Array) -> Array:
    """Twists (..., 6) of poses (..., 4, 4), inverse of `se3_exp`."""
    xp = namespace(pose)
    rotation_vector = so3_log(pose[..., :3, :3])
    squared = xp.sum(rotation_vector**2, axis=-1)[..., None, None]
    a, b, _ = _exp_coefficients(squared)
    small = squared < _SMALL_SQUARED
    safe = xp.where(small, like(1.0, pose), squared)
    d = xp.where(small, 1 / 12 + squared / 720, (1 - a / (2 * b)) / safe)
    w = skew(rotation_vector)
    left_inverse = like([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]], pose) - 0.5 * w + d * (w @ w)
    return xp.concat([rotation_vector, (left_inverse @ pose[..., :3, 3:])[..., 0]], axis=-1)


def rotation_to_quaternion(rotation: Array) -> Array:
    """Unit quaternions (..., 4), x, y, z, w with w >= 0, from rotations (..., 3, 3).

    Of the four ways to divide, the one with the largest divisor is taken, so it holds near 180 degrees.
    """
    rotation = to_float(rotation)
    xp = namespace(rotation)
    r = rotation
    m00, m11, m22 = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    a, b, c = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    p, q, s = r[..., 1, 0] + r[..., 0, 1], r[..., 0, 2] + r[..., 2, 0], r[..., 2, 1] + r[..., 1, 2]
    candidates = xp.stack(
        [
            xp.stack([1 + m00 - m11 - m22, p, q, a], axis=-1),
            xp.stack([p, 1 - m00 + m11 - m22, s, b], axis=-1),
            xp.stack([q, s, 1 - m00 - m11 + m22, c], axis=-1),
            xp.stack([a, b, c, 1 + m00 + m11 + m22], axis=-1),
        ],
        axis=-2,
    )
    lengths = xp.sum(candidates**2, axis=-1)
    number = like([0.0, 1.0, 2.0, 3.0], rotation)  # on the device of the rotations
    chosen = xp.astype(xp.astype(xp.argmax(lengths, axis=-1), rotation.dtype)[..., None] == number, rotation.dtype)
    best = xp.sum(candidates * chosen[..., None], axis=-2)
    best = best / xp.sqrt(xp.sum(best**2, axis=-1))[..., None]
    return xp.where(best[..., 3:] < 0, -best, best)


def euler_to_rotation(angles: Array) -> Array:
    """Rotations (..., 3, 3) = Rz Ry Rx from angles (..., 3) about the fixed axes x, y, z, in radians."""
    angles = to_float(angles)
    xp = namespace(angles)
    c, s = xp.cos(angles), xp.sin(angles)
    cx, cy, cz, sx, sy, sz = c[..., 0], c[..., 1], c[..., 2], s[..., 0], s[..., 1], s[..., 2]
    rows = [
        xp.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], axis=-1),
        xp.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], axis=-1),
        xp.stack([-sy, cy * sx, cy * cx], axis=-1),
    ]
    return xp.stack(rows, axis=-2)


def rotation_to_euler(rotation: Array) -> Array:
    """Angles (..., 3) about the fixed axes x, y, z in radians; at y = +-90 degrees z is 0."""
    rotation = to_float(rotation)
    xp = namespace(rotation)
    r = rotation
    cy = xp.sqrt(r[..., 0, 0] ** 2 + r[..., 1, 0] ** 2)
    locked = cy < _GIMBAL_COSINE
    y = xp.atan2(-r[..., 2, 0], cy)
    x = xp.where(locked, xp.atan2(-r[..., 1, 2], r[..., 1, 1]), xp.atan2(r[..., 2, 1], r[..., 2, 2]))
    z = xp.where(locked, xp.zeros_like(cy), xp.atan2(r[..., 1, 0], r[..., 0, 0]))
    return xp.stack([x, y, z], axis=-1)


def euler_deg_to_rotation(angles_deg: Array) -> Array:
    """`euler_to_rotation` of angles (..., 3) in degrees, as people see them: (..., 3, 3)."""
    return euler_to_rotation(to_float(angles_deg) * (math.pi / 180))


def rotation_to_euler_deg(rotation: Array) -> Array:
    """`rotation_to_euler` of rotations (..., 3, 3) in degrees: (..., 3)."""
    return rotation_to_euler(rotation) * (180 / math.pi)


def rotation_angle(rotation: Array) -> Array:
    """Angle (...) in radians of rotations (..., 3, 3): the geodesic distance to the identity on SO(3).

    Its gradient at the identity, which does not exist, is 0.
    """
    xp = namespace(rotation)
    squared = xp.sum(so3_log(rotation) ** 2, axis=-1)
    none = squared == 0
    return xp.where(none, like(0.0, rotation), xp.sqrt(xp.where(none, like(1.0, rotation), squared)))
