"""Roadmap: how long a model of 100,000 triangles, and a phantom's vessels, take from 3D to the picture over the angiogram."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import benchmarking
import numpy as np
from benchmarking import table, verdict

TRIANGLES, TARGET_MS = 100_000, 200.0


def ball(triangles: int, radius_mm: float = 50.0) -> Any:
    """A closed surface of about so many triangles about the isocentre; it covers half of the detector, more than vessels do."""
    from DeepIterRegLib.results.roadmap import Surface

    n = round((triangles / 2) ** 0.5)
    theta, phi = np.meshgrid(np.linspace(0, np.pi, n + 1), np.linspace(0, 2 * np.pi, n + 1), indexing="ij")
    points = radius_mm * np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    a = np.add.outer(np.arange(n) * (n + 1), np.arange(n)).ravel()
    quads = np.stack([a, a + 1, a + n + 2, a + n + 1], axis=1)
    return Surface(points.reshape(-1, 3), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))


def times_ms(work: Callable[[], Any], repeats: int) -> np.ndarray:
    """Of each run after the first, which compiles."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(1000 * (time.perf_counter() - begin))
    return np.array(found)


def main(argv: list[str] | None = None) -> None:
    options = benchmarking.parse("roadmap", __doc__ or "", argv)
    from DeepIterRegLib.geometry import CArm, pose
    from DeepIterRegLib.phantom import PhantomSettings, make_patient
    from DeepIterRegLib.phantom.settings import CtaSettings
    from DeepIterRegLib.results.roadmap import Style, Thing, layer, over, surface_of_mask

    carm = CArm.from_angles(90, 0, sid_mm=1200, sod_mm=750, rows=1024, columns=1024, pixel_spacing_mm=(0.2, 0.2))
    wide = CArm.from_angles(90, 0, sid_mm=1200, sod_mm=750, rows=1024, columns=1024, pixel_spacing_mm=(0.3, 0.3))
    coarse = CtaSettings(in_plane_spacing_mm=(1.0, 1.0), slice_spacing_mm=(1.0, 1.0))
    vessels = make_patient(1, PhantomSettings(cta=coarse) if options.small else PhantomSettings()).vessels
    model = ball(1000 if options.small else TRIANGLES)
    grey = np.full((carm.rows, carm.columns), 128, np.uint8)
    repeats = 2 if options.small else options.limit or 20
    tree = surface_of_mask(vessels)
    centred = pose.radiological(vessels.centre_mm)
    rows, medians = [], []
    for name, shape, view, at in (("model", model, carm, np.eye(4)), ("vessels of a head", tree, wide, centred)):
        for look, style in (("filled", Style()), ("shaded", Style(shaded=True)), ("outline", Style(outline=True))):
            things = [Thing(name, shape, style)]
            found = times_ms(lambda t=things, v=view, a=at: over(grey, layer(t, v, a)), repeats)  # type: ignore[misc]
            rows.append([name, f"{len(shape.triangles):,}", look, f"{np.median(found):.0f}", f"{found.max():.0f}"])
            medians.append(float(np.median(found)))
    faces = times_ms(lambda: surface_of_mask(vessels), max(1, repeats // 4))
    slowest = max(medians[:3])
    goal = [f"{len(model.triangles):,} triangles, slowest style", f"{slowest:.0f} ms", f"{TARGET_MS:.0f} ms"]
    body = "\n\n".join(
        [
            "From points and triangles to the picture over a frame, 1024 x 1024, all cores; compilation comes before the clock.",
            table(["", "measured", "target", ""], [[*goal, verdict(slowest < TARGET_MS)]]),
            table(["thing", "triangles", "style", "ms, median", "ms, worst"], rows),
            f"Once for a mask: the faces of its voxels ({np.count_nonzero(vessels.voxels):,} in {vessels.voxels.size:,}), "
            f"{np.median(faces):.0f} ms.",
        ]
    )
    benchmarking.write_result("roadmap", "Roadmap: time to draw", body, options)


if __name__ == "__main__":
    main()
