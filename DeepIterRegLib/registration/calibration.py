"""Small corrections of the views once the pose is found: headers that are a little off, and a head that moved between runs.

Pose and corrections are found together as the most probable ones: the score of each view as a likelihood (see
`vessels.alignment.pose_covariances`), what is expected of each correction as a normal prior. Both kinds are changes of the
C-arm alone, since a head that moved is seen as by a C-arm that moved the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from DeepIterRegLib.common.errors import Cancelled, InputError
from DeepIterRegLib.common.progress import ShouldStop
from DeepIterRegLib.geometry import CArm, pose
from DeepIterRegLib.registration.vessels.alignment import normal_equations, pose_covariances, zncc
from DeepIterRegLib.registration.vessels.least_squares import move, twist_between
from DeepIterRegLib.registration.vessels.points import Points
from DeepIterRegLib.registration.vessels.targets import REFINE, Target, View, make_targets

LIMIT = 3.0  # no correction goes further than so many standard deviations of what is expected
_AT_LIMIT = LIMIT - 0.01  # a correction beyond this would go further if it might
# Resolution: that of the search's last level but one.
_ROWS, _POINTS, _SIGMA_PX = 192, 16000, 0.9
# Fewer than `alignment.SAMPLES`: what the head moves within the runs must not be taken for a wrong header.
_SAMPLES = 300.0
_STEP = 0.05  # of the finite differences, in standard deviations
_ITERATIONS = 30  # of L-BFGS at most
_TOLERANCE = 1e-6  # it ends when the loss falls by less, relatively
# Scores are taken to lie in this range: the likelihood grows beyond all bounds towards 1, and below 0 nothing fits.
_FIT_RANGE = (0.0, 0.95)


@dataclass(frozen=True)
class GeometrySlack:
    """How far headers may be off: standard deviations of angles, SID, and principal point (on the detector, each axis)."""

    angle_deg: float = 1.5
    sid_mm: float = 8.0
    principal_point_mm: float = 3.0

    def __post_init__(self) -> None:
        _require_positive(self.angle_deg, self.sid_mm, self.principal_point_mm)

    def deviations(self) -> dict[str, float]:
        """By the name of what is corrected."""
        return {
            "primary_angle_deg": self.angle_deg,
            "secondary_angle_deg": self.angle_deg,
            "sid_mm": self.sid_mm,
            "principal_point_column_mm": self.principal_point_mm,
            "principal_point_row_mm": self.principal_point_mm,
        }


@dataclass(frozen=True)
class BetweenRuns:
    """How far the head may have moved since the first run: standard deviations of turn and shift, each axis."""

    rotation_deg: float = 1.0
    translation_mm: float = 1.5

    def __post_init__(self) -> None:
        _require_positive(self.rotation_deg, self.translation_mm)

    def deviations(self) -> dict[str, float]:
        """By the name of what is corrected; axes of the C-arm frame, turned about the head's centre."""
        turns = {f"head_turn_{axis}_deg": self.rotation_deg for axis in "ras"}
        return turns | {f"head_shift_{axis}_mm": self.translation_mm for axis in "ras"}


def _require_positive(*deviations: float) -> None:
    if not min(deviations) > 0:
        raise InputError(f"What is corrected needs standard deviations above 0, not {min(deviations):g}.")


@dataclass(frozen=True)
class Corrected:
    """Pose (4, 4) and views after correction; what was changed in each view by name, and the names that reached the limit."""

    cta_to_carm: np.ndarray
    views: tuple[View, ...]
    changes: tuple[dict[str, float], ...]
    at_limit: tuple[tuple[str, ...], ...]


def correct_views(
    points: Points,
    views: Sequence[View],
    cta_to_carm: np.ndarray,
    slack: GeometrySlack | None,
    between_runs: BetweenRuns | None,
    saturation_mm: float,
    *,
    seed: int = 0,
    should_stop: ShouldStop | None = None,
) -> Corrected:
    """Correct the views' C-arms, and the pose (4, 4) with them.

    `slack` concerns every view, `between_runs` all but the first; None corrects nothing of the kind.
    """
    expected = [
        {**(slack.deviations() if slack else {}), **(between_runs.deviations() if between_runs and k else {})}
        for k in range(len(views))
    ]
    # Drawn once: other points at each evaluation would make the loss jump, and L-BFGS fail.
    drawn = points.subset(_POINTS, np.random.default_rng(seed))
    targets = make_targets(views, _ROWS, _SIGMA_PX, REFINE)
    carms = [view.carm for view in views]
    centre_mm = pose.transform(cta_to_carm, points.origin_mm[None])[0]
    # Steps of the pose in units of how well it is determined: all unknowns are then of one size.
    spread = np.linalg.cholesky(pose_covariances(drawn, cta_to_carm, targets, saturation_mm)[0])
    bounds = [(-np.inf, np.inf)] * 6 + [(-LIMIT, LIMIT)] * sum(map(len, expected))

    def split(x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        ends = np.cumsum([len(one) for one in expected])[:-1]
        at = move(cta_to_carm[None], (spread @ x[:6])[None], points, carms[0])
        return at, np.split(x[6:], ends)

    def changed(k: int, x: np.ndarray) -> CArm:
        return _changed(carms[k], dict(zip(expected[k], x * list(expected[k].values()), strict=True)), centre_mm)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        if should_stop is not None and should_stop():
            raise Cancelled("Registration was cancelled.")
        at, parts = split(x)
        value, of_pose, of_changes = 0.0, np.zeros(6), []
        for k, part in enumerate(parts):

            def score_of(x: np.ndarray, k: int = k, at: np.ndarray = at) -> float:
                return float(zncc(drawn, at, _seen_by(targets[k], changed(k, x)), saturation_mm)[0])

            carm = changed(k, part)
            score, gradient, _ = normal_equations(drawn, at, _seen_by(targets[k], carm), saturation_mm)
            fit = float(np.clip(score[0], *_FIT_RANGE))
            slope = _SAMPLES * fit / (1 - fit**2)
            value += 0.5 * _SAMPLES * np.log(1 - fit**2)
            of_pose -= slope * gradient[0] @ twist_between(carms[0], carm)
            # By differences: the kernels know derivatives by the pose alone, not by SID or principal point.
            steps = _STEP * np.eye(len(part))
            of_changes.append([-slope * (score_of(part + s) - score_of(part - s)) / (2 * _STEP) for s in steps])
        prior = x[6:]
        # The normal priors, as corrections are counted in standard deviations (Resources/Docs/method.md, section 11).
        return value + 0.5 * float(prior @ prior), np.concatenate(
            [spread.T @ of_pose, np.concatenate(of_changes) + prior]
        )

    from scipy import optimize  # slow to import, and seldom asked for

    start = np.zeros(len(bounds))
    found = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _ITERATIONS, "ftol": _TOLERANCE}
    )
    at, parts = split(found.x)
    return Corrected(
        at[0],
        tuple(replace(view, carm=changed(k, part)) for k, (view, part) in enumerate(zip(views, parts, strict=True))),
        tuple(
            {name: float(x * sd) for x, (name, sd) in zip(part, one.items(), strict=True)}
            for part, one in zip(parts, expected, strict=True)
        ),
        tuple(
            tuple(name for x, name in zip(part, one, strict=True) if abs(x) > _AT_LIMIT)
            for part, one in zip(parts, expected, strict=True)
        ),
    )


def _seen_by(target: Target, carm: CArm) -> Target:
    """The same image, seen by another C-arm."""
    return replace(target, carm=carm.resampled(target.carm.rows, target.carm.columns))


def _changed(carm: CArm, change: dict[str, float], centre_mm: np.ndarray) -> CArm:
    """A C-arm whose header is off by `change`, or that sees a head that has moved about its centre (3,), C-arm RAS mm."""

    def values(*names: str) -> np.ndarray:
        return np.array([change.get(name, 0.0) for name in names])

    turned = _turned(carm, *values("primary_angle_deg", "secondary_angle_deg"))
    motion = pose.offset_about(
        np.eye(4),
        centre_mm,
        pose.so3_exp(np.radians(values(*(f"head_turn_{axis}_deg" for axis in "ras")))),
        values(*(f"head_shift_{axis}_mm" for axis in "ras")),
    )
    seen = _moved(turned, pose.inverse(motion))
    across_mm, along_mm = values("principal_point_column_mm", "principal_point_row_mm")
    row_spacing, column_spacing = carm.pixel_spacing_mm
    column, row = carm.principal_point_px
    return replace(
        seen,
        sid_mm=carm.sid_mm + change.get("sid_mm", 0.0),
        principal_point_px=(column + across_mm / column_spacing, row + along_mm / row_spacing),
    )


def _turned(carm: CArm, primary_deg: float, secondary_deg: float) -> CArm:
    """A C-arm turned about the isocentre by so much on each of its angles; the image's axes go with it."""

    def axes(primary: float, secondary: float) -> np.ndarray:
        # Distances and pixels do not change the axes.
        return CArm.from_angles(
            primary, secondary, sid_mm=1200, sod_mm=750, rows=2, columns=2, pixel_spacing_mm=(1.0, 1.0)
        ).axes

    primary, secondary = carm.primary_angle_deg, carm.secondary_angle_deg
    turn = axes(primary + primary_deg, secondary + secondary_deg).T @ axes(primary, secondary)
    return _moved(carm, pose.matrix(turn, np.zeros(3)))


def _moved(carm: CArm, motion: np.ndarray) -> CArm:
    """A C-arm moved as a whole by a rigid motion (4, 4)."""

    def vector(values: np.ndarray) -> tuple[float, float, float]:
        x, y, z = (float(value) for value in values)
        return x, y, z

    rotation = motion[:3, :3]
    return replace(
        carm,
        source_mm=vector(rotation @ np.array(carm.source_mm) + motion[:3, 3]),
        column_axis=vector(rotation @ np.array(carm.column_axis)),
        row_axis=vector(rotation @ np.array(carm.row_axis)),
        beam_axis=vector(rotation @ np.array(carm.beam_axis)),
    )
