"""The C-arm: where source and detector stand, and how a point of the head meets a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from DeepIterRegLib.common.errors import GeometryError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.geometry.arrays import Array, like, namespace
from DeepIterRegLib.geometry.pose import transform

Vector = tuple[float, float, float]

# A point nearer than this to the source's plane, mm, meets no pixel: dividing by its depth would give any number.
_MIN_DEPTH_MM = 1e-6
# A calibrated matrix may have a little skew and a spacing that is not quite the header's: calibrations are noisy. What is
# beyond these belongs to another detector.
_MAX_SKEW, _MAX_SPACING_DIFFERENCE = 1e-3, 0.02
MOST_ASPECT = 10.0  # of pixels: beyond it a spacing is damaged, and grids of square pixels would have no end
# Smallest determinant, relative to the norm cubed, of an invertible left part.
_SINGULAR = 1e-12


@dataclass(frozen=True)
class CArm:
    """One calibrated view (Resources/Docs/method.md, section 1). World: C-arm RAS mm, origin at the isocentre.

    Attributes
    ----------
    sid_mm
        Source to detector distance.
    rows, columns
        Size of the image in px.
    pixel_spacing_mm
        (row spacing, column spacing) on the detector, as DICOM writes it: distance between rows first.
    principal_point_px
        (column, row) where the perpendicular from the source meets the detector; (0, 0) is the
        CENTRE of the first pixel.
    source_mm
        Position of the source.
    column_axis, row_axis, beam_axis
        Unit vectors: along a row with rising column index (u), along a column with rising row index
        (v), from source towards detector and perpendicular to it (d). A stored image that is
        mirrored or turned has its axes mirrored or turned here; pixels are never moved.
    """

    sid_mm: float
    rows: int
    columns: int
    pixel_spacing_mm: tuple[float, float]
    principal_point_px: tuple[float, float]
    source_mm: Vector
    column_axis: Vector
    row_axis: Vector
    beam_axis: Vector

    def __post_init__(self) -> None:
        problems: list[str] = []
        if not 100 <= self.sid_mm <= 3000:
            problems.append(Message(f"SID is {self.sid_mm:g} mm; a C-arm has 100 to 3000 mm", give=("sid",)))
        if not (min(self.pixel_spacing_mm) >= 0.01 and max(self.pixel_spacing_mm) <= 20):
            problems.append(
                Message(
                    f"Pixel spacing is {self.pixel_spacing_mm} mm; 0.01 to 20 mm make sense", give=("pixel_spacing",)
                )
            )
        elif max(self.pixel_spacing_mm) > MOST_ASPECT * min(self.pixel_spacing_mm):
            row_mm, column_mm = self.pixel_spacing_mm
            problems.append(
                Message(
                    f"Pixels are {row_mm:g} x {column_mm:g} mm; those of a detector are at most {MOST_ASPECT:g} times as long as wide",
                    give=("pixel_spacing",),
                )
            )
        if self.rows < 2 or self.columns < 2:
            problems.append(
                f"The image has {self.rows} rows and {self.columns} columns; at least 2 of each are needed."
            )
        if not np.isfinite(np.array([*self.source_mm, *self.principal_point_px])).all():
            problems.append("Source position or principal point is not a finite number.")
        elif not 50 <= self.sod_mm < self.sid_mm:
            problems.append(
                Message(
                    f"SOD (source to isocentre) is {self.sod_mm:g} mm; it must be at least 50 mm and below the SID of "
                    f"{self.sid_mm:g} mm",
                    give=("sod",),
                )
            )
        axes = np.array([self.column_axis, self.row_axis, self.beam_axis])
        if not np.allclose(axes @ axes.T, np.eye(3), atol=1e-6):
            problems.append("Column, row and beam axes are not perpendicular unit vectors.")
        if problems:
            raise GeometryError(problems)

    # -- construction ------------------------------------------------------------------------------

    @classmethod
    def from_angles(
        cls,
        primary_angle_deg: float,
        secondary_angle_deg: float,
        *,
        sid_mm: float,
        sod_mm: float,
        rows: int,
        columns: int,
        pixel_spacing_mm: tuple[float, float],
        principal_point_px: tuple[float, float] | None = None,
    ) -> CArm:
        """View from DICOM positioner angles: primary LAO positive, secondary cranial positive.

        Raises
        ------
        GeometryError
            Naming each value out of range and the option that supplies it.
        """
        problems = []
        if not abs(primary_angle_deg) <= 180:
            problems.append(
                Message(f"Primary angle is {primary_angle_deg:g} deg; -180 to 180 make sense", give=("primary_angle",))
            )
        if not abs(secondary_angle_deg) <= 90:
            problems.append(
                Message(
                    f"Secondary angle is {secondary_angle_deg:g} deg; -90 to 90 make sense", give=("secondary_angle",)
                )
            )
        if problems:
            raise GeometryError(problems)
        sa, ca = math.sin(math.radians(primary_angle_deg)), math.cos(math.radians(primary_angle_deg))
        sb, cb = math.sin(math.radians(secondary_angle_deg)), math.cos(math.radians(secondary_angle_deg))
        d = (-sa * cb, ca * cb, sb)
        return cls(
            sid_mm=float(sid_mm),
            rows=int(rows),
            columns=int(columns),
            pixel_spacing_mm=(float(pixel_spacing_mm[0]), float(pixel_spacing_mm[1])),
            principal_point_px=principal_point_px or ((columns - 1) / 2, (rows - 1) / 2),
            source_mm=(-sod_mm * d[0], -sod_mm * d[1], -sod_mm * d[2]),
            column_axis=(-ca, -sa, 0.0),
            row_axis=(-sa * sb, ca * sb, -cb),
            beam_axis=d,
        )

    @classmethod
    def from_projection_matrix(
        cls,
        projection: Sequence[Sequence[float]] | np.ndarray,
        *,
        rows: int,
        columns: int,
        pixel_spacing_mm: tuple[float, float] | None = None,
        sid_mm: float | None = None,
    ) -> CArm:
        """View from a calibrated matrix (3, 4): RAS mm to (column, row), homogeneous, of any scale and sign.

        A projection matrix fixes SID / spacing but neither alone: one of `pixel_spacing_mm`, `sid_mm` is needed.

        Raises
        ------
        GeometryError
            Not 3 x 4, not finite, singular, skewed, or neither or both contradictory of spacing and SID.
        """
        p = np.asarray(projection, dtype=np.float64)
        if p.shape != (3, 4) or not np.isfinite(p).all():
            raise GeometryError(
                f"The projection matrix has shape {p.shape} or is not finite; 3 rows of 4 finite numbers are needed."
            )
        m = p[:, :3]
        if abs(np.linalg.det(m)) < _SINGULAR * np.linalg.norm(m) ** 3:
            raise GeometryError(
                "The left 3x3 part of the projection matrix is singular; a perspective matrix is needed."
            )
        # Scaled so that the third coordinate is the depth in mm; the three rows of m are then K times the axes (RQ by hand).
        p = p / np.linalg.norm(m[2])
        p = p * (1.0 if p[2, 3] >= 0 else -1.0)  # the isocentre lies in front of the source
        m = p[:, :3]
        source = -np.linalg.solve(m, p[:, 3])
        d = m[2]
        cx, cy = float(m[0] @ d), float(m[1] @ d)
        along_v = m[1] - cy * d
        focal_v = float(np.linalg.norm(along_v))
        v = along_v / focal_v
        along_u = m[0] - cx * d
        skew = float(along_u @ v)
        along_u = along_u - skew * v
        focal_u = float(np.linalg.norm(along_u))
        if abs(skew) > _MAX_SKEW * focal_u:
            raise GeometryError(
                f"The projection matrix has a skew of {skew / focal_u:.4f}; detectors with rectangular pixels have 0."
            )
        if pixel_spacing_mm is None and sid_mm is None:
            raise GeometryError(
                Message("A projection matrix fixes only SID / pixel spacing", give=("pixel_spacing", "sid"))
            )
        if sid_mm is None:
            assert pixel_spacing_mm is not None
            sid_mm = focal_u * pixel_spacing_mm[1]
        spacing = (sid_mm / focal_v, sid_mm / focal_u)
        if pixel_spacing_mm is not None and not np.allclose(spacing, pixel_spacing_mm, rtol=_MAX_SPACING_DIFFERENCE):
            raise GeometryError(
                f"The projection matrix and SID {sid_mm:g} mm give a pixel spacing of {spacing[0]:.4f} x {spacing[1]:.4f} mm, but "
                f"{pixel_spacing_mm[0]:g} x {pixel_spacing_mm[1]:g} mm was given: correct one of them."
            )
        return cls(
            sid_mm=float(sid_mm),
            rows=int(rows),
            columns=int(columns),
            pixel_spacing_mm=spacing,
            principal_point_px=(cx, cy),
            source_mm=_vector(source),
            column_axis=_vector(along_u / focal_u),
            row_axis=_vector(v),
            beam_axis=_vector(d),
        )

    # -- derived -----------------------------------------------------------------------------------

    @property
    def sod_mm(self) -> float:
        """Source to isocentre, along the beam axis."""
        return -float(np.dot(self.source_mm, self.beam_axis))

    @property
    def primary_angle_deg(self) -> float:
        """LAO positive, RAO negative."""
        return math.degrees(math.atan2(-self.beam_axis[0], self.beam_axis[1]))

    @property
    def secondary_angle_deg(self) -> float:
        """Cranial positive, caudal negative."""
        return math.degrees(math.asin(min(1.0, max(-1.0, self.beam_axis[2]))))  # rounding may leave more than 1

    @property
    def magnification(self) -> float:
        """SID / SOD: size on the detector over size at the isocentre."""
        return self.sid_mm / self.sod_mm

    @property
    def axes(self) -> np.ndarray:
        """Rows u, v, d (3, 3): C-arm RAS to detector axes."""
        return np.array([self.column_axis, self.row_axis, self.beam_axis], dtype=np.float64)

    @property
    def intrinsics(self) -> np.ndarray:
        """K (3, 3): focal lengths SID / spacing and the principal point, in px (A eq. 8)."""
        row_spacing, column_spacing = self.pixel_spacing_mm
        cx, cy = self.principal_point_px
        return np.array(
            [[self.sid_mm / column_spacing, 0, cx], [0, self.sid_mm / row_spacing, cy], [0, 0, 1]], dtype=np.float64
        )

    @property
    def projection_matrix(self) -> np.ndarray:
        """P (3, 4): C-arm RAS mm to homogeneous (column, row); the third coordinate is the depth in mm."""
        return self.intrinsics @ np.hstack([self.axes, -self.axes @ np.array(self.source_mm)[:, None]])

    def project(self, points_ras: Array, pose: Array | None = None) -> Array:
        """Where points meet the detector.

        Parameters
        ----------
        points_ras : (..., N, 3)
            RAS mm: of the C-arm, or of the CTA if `pose` is given.
        pose : (..., 4, 4), optional
            ``cta_to_carm``.

        Returns
        -------
        (..., N, 2) column, row in px. Points at or behind the source give not-a-number.
        """
        points = points_ras if pose is None else transform(pose, points_ras)
        xp = namespace(points)
        p = like(self.projection_matrix, points)
        h = points @ p[:, :3].T + p[:, 3]
        depth = xp.where(h[..., 2:] > _MIN_DEPTH_MM, h[..., 2:], like(math.nan, points))
        return h[..., :2] / depth

    def pixel_positions(self, columns_rows: Array) -> Array:
        """Positions (..., 3) in C-arm RAS mm of pixels (..., 2) given as column, row: where they stand on the detector."""
        row_spacing, column_spacing = self.pixel_spacing_mm
        cx, cy = self.principal_point_px
        u, v, d = (like(a, columns_rows) for a in (self.column_axis, self.row_axis, self.beam_axis))
        x = (columns_rows[..., :1] - cx) * column_spacing
        y = (columns_rows[..., 1:2] - cy) * row_spacing
        return like(self.source_mm, columns_rows) + self.sid_mm * d + x * u + y * v

    # -- other grids -------------------------------------------------------------------------------

    def contains(self, columns_rows: Array) -> Array:
        """Whether pixels (..., 2), column and row, lie on the image: (...) bool. (0, 0) is the centre of the first pixel."""
        inside = (columns_rows >= -0.5) & (columns_rows <= np.array([self.columns, self.rows]) - 0.5)
        return np.asarray(inside.all(axis=-1))

    def beyond_detector_mm(self, points_ras: Array) -> Array:
        """How far points (..., 3), C-arm RAS mm, lie behind the plane of the detector, seen from the source: (...) mm."""
        return np.asarray((points_ras - np.array(self.source_mm)) @ np.array(self.beam_axis) - self.sid_mm)

    def resampled(self, rows: int, columns: int) -> CArm:
        """The same detector area on another pixel grid (pixel edges coincide, not pixel centres)."""
        fr, fc = self.rows / rows, self.columns / columns
        cx, cy = self.principal_point_px
        return replace(
            self,
            rows=rows,
            columns=columns,
            pixel_spacing_mm=(self.pixel_spacing_mm[0] * fr, self.pixel_spacing_mm[1] * fc),
            principal_point_px=((cx + 0.5) / fc - 0.5, (cy + 0.5) / fr - 0.5),
        )

    def working_grid(self, rows: int) -> CArm:
        """The same detector area on `rows` rows of about square pixels, whatever the shape of the detector's own."""
        row_mm, column_mm = self.pixel_spacing_mm
        return self.resampled(rows, max(2, round(rows * self.columns * column_mm / (self.rows * row_mm))))

    def cropped(self, first_row: int, first_column: int, rows: int, columns: int) -> CArm:
        """A window of the detector, as a view of its own; it may reach beyond the detector."""
        cx, cy = self.principal_point_px
        return replace(self, rows=rows, columns=columns, principal_point_px=(cx - first_column, cy - first_row))

    def moved(self, motion: Array) -> CArm:
        """The C-arm moved as a whole by a rigid motion (4, 4), RAS mm: it sees a head as this one sees it moved the other way."""
        rotation = np.asarray(motion[:3, :3])
        return replace(
            self,
            source_mm=_vector(rotation @ self.source_mm + motion[:3, 3]),
            column_axis=_vector(rotation @ self.column_axis),
            row_axis=_vector(rotation @ self.row_axis),
            beam_axis=_vector(rotation @ self.beam_axis),
        )

    def mirrored(self) -> CArm:
        """The view whose stored image is flipped left-right (FieldOfViewHorizontalFlip)."""
        cx, cy = self.principal_point_px
        return replace(
            self, column_axis=_vector(-np.array(self.column_axis)), principal_point_px=(self.columns - 1 - cx, cy)
        )

    def turned(self, quarter_turns: int) -> CArm:
        """The view whose stored image is turned clockwise by quarter turns (FieldOfViewRotation / 90)."""
        view = self
        for _ in range(quarter_turns % 4):
            cx, cy = view.principal_point_px
            view = replace(
                view,
                rows=view.columns,
                columns=view.rows,
                pixel_spacing_mm=(view.pixel_spacing_mm[1], view.pixel_spacing_mm[0]),
                column_axis=_vector(-np.array(view.row_axis)),
                row_axis=view.column_axis,
                principal_point_px=(view.rows - 1 - cy, cx),
            )
        return view

    # -- files -------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; angles are added for people and ignored by `from_dict`."""
        return {
            "sid_mm": self.sid_mm,
            "sod_mm": self.sod_mm,
            "primary_angle_deg": self.primary_angle_deg,
            "secondary_angle_deg": self.secondary_angle_deg,
            "rows": self.rows,
            "columns": self.columns,
            "pixel_spacing_mm": list(self.pixel_spacing_mm),
            "principal_point_px": list(self.principal_point_px),
            "source_mm": list(self.source_mm),
            "column_axis": list(self.column_axis),
            "row_axis": list(self.row_axis),
            "beam_axis": list(self.beam_axis),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CArm:
        """Inverse of `to_dict`."""
        return cls(
            sid_mm=float(values["sid_mm"]),
            rows=int(values["rows"]),
            columns=int(values["columns"]),
            pixel_spacing_mm=(float(values["pixel_spacing_mm"][0]), float(values["pixel_spacing_mm"][1])),
            principal_point_px=(float(values["principal_point_px"][0]), float(values["principal_point_px"][1])),
            source_mm=_vector(values["source_mm"]),
            column_axis=_vector(values["column_axis"]),
            row_axis=_vector(values["row_axis"]),
            beam_axis=_vector(values["beam_axis"]),
        )


def _vector(values: Any) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
