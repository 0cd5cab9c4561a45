"""Files in, pictures out: a projection, a roadmap, or what lies under a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from DeepIterRegLib.common.devices import named
from DeepIterRegLib.common.errors import InputError
from DeepIterRegLib.common.messages import Message
from DeepIterRegLib.common.options import Device
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.shown import calling
from DeepIterRegLib.geometry import CArm
from DeepIterRegLib.geometry.pose import radiological
from DeepIterRegLib.geometry.pose_files import read_pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.cta_checks import prepare_cta
from DeepIterRegLib.images.detector_image import detector_image
from DeepIterRegLib.images.dicom import GeometryOptions, read_angiogram
from DeepIterRegLib.images.files import load_volume, save_volume
from DeepIterRegLib.images.volume import Volume, is_mask
from DeepIterRegLib.registration.steps import Step, expected


def project_file(
    volume_path: Path,
    pose_path: Path | None,
    like: Path | None,
    geometry: GeometryOptions,
    size: tuple[int, int] | None,
    device: Device,
    path: Path,
    on_progress: Progress,
) -> None:
    """Write the projection of a CTA or a mask as a NIfTI of one slice or a PNG."""
    from DeepIterRegLib.results.report.images import opacity, vessel_projection

    carm = _view(like, geometry, size, pose_path)
    cta_to_carm = calling("pose", read_pose)(pose_path) if pose_path else None
    on_progress.expect(expected(Step.READ_VOLUME, Step.PROJECT, Step.WRITE))
    on_progress(Step.READ_VOLUME, 0.0)
    volume = calling("volume", load_volume)(volume_path)
    cta_to_carm = radiological(_centre_mm(volume)) if cta_to_carm is None else cta_to_carm
    on_progress(Step.PROJECT, 0.0)
    if is_mask(volume):
        image = vessel_projection(volume.with_voxels(volume.voxels != 0), carm, cta_to_carm)
        # Dark on white, as a DSA shows vessels.
        shown = 1 - opacity(image)
    else:
        image = _ray_cast(volume, carm, cta_to_carm, device)
        # What the detector would receive (Beer and Lambert): bone dark and air white, as in fluoroscopy.
        shown = np.exp(-image)
    on_progress(Step.WRITE, 0.0)
    if path.suffix == ".png":
        from PIL import Image

        low, high = float(shown.min()), float(shown.max())
        grey = (255 * (shown - low) / max(high - low, 1e-12)).astype(np.uint8)
        Image.fromarray(grey).save(path)
    else:
        save_volume(detector_image(image, carm), path)
    on_progress(Step.WRITE, 1.0)


def _centre_mm(volume: Volume) -> np.ndarray:
    """The head's centre (3,), RAS mm, in a CTA; of a mask, or where there is no head, the grid's."""
    if is_mask(volume):
        return volume.centre_mm
    try:
        return prepare_cta(volume).centre_mm
    except InputError:
        return volume.centre_mm


def roadmap_file(
    items: Sequence[str],
    pose_path: Path | None,
    like: Path | None,
    frame: int | None,
    geometry: GeometryOptions,
    size: tuple[int, int] | None,
    path: Path,
    layer_path: Path | None,
    on_progress: Progress,
) -> None:
    """Write 3D things at a pose as a PNG: over the MinIP or a frame (from 0) of a DSA, or on black without one.

    Without a DSA and a size the view is that of the pose's registration.json. `layer_path` gets the things alone.
    """
    from DeepIterRegLib.results.report.outputs import read_registration
    from DeepIterRegLib.results.roadmap.draw import grey_frame, layer, over, write_png
    from DeepIterRegLib.results.roadmap.files import parse_items, things_of

    if pose_path is None:
        raise InputError(
            Message("Nothing says where the head stood (ctaToCarm.tfm or registration.json)", give=("pose",))
        )
    parsed = calling("item", parse_items)(items)
    cta_to_carm = calling("pose", read_pose)(pose_path)
    on_progress.expect(expected(Step.READ_DSA, Step.READ_ITEMS, Step.DRAW))
    on_progress(Step.READ_DSA, 0.0)
    run = calling("like", read_angiogram)(like, geometry) if like is not None else None
    if run is not None:
        carm = _carm_of(run, geometry, size, pose_path)
    # A result's registration.json holds the C-arm too; a transform holds none.
    elif size is None and pose_path.suffix.lower() == ".json":
        carm = read_registration(pose_path).carm
    else:
        carm = _view(None, geometry, size, None)
    if frame is not None and (run is None or not 0 <= frame < len(run.frames)):
        if run is None:
            raise InputError(
                Message(f"Frame {frame + 1} is asked for, but there is no DSA", at="frame", give=("like",))
            )
        raise InputError(Message(f"Frame {frame + 1} is asked for, but the DSA has {len(run.frames)}", at="frame"))
    on_progress(Step.READ_ITEMS, 0.0)
    things = calling("item", things_of)(parsed)
    on_progress(Step.DRAW, 0.0)
    drawn = layer(things, carm, cta_to_carm)
    grey = np.zeros((carm.rows, carm.columns), np.uint8) if run is None else grey_frame(run, frame)
    # Things are drawn at the size that was asked for, and only the picture behind is resized: edges stay sharp.
    if grey.shape != (carm.rows, carm.columns):
        from PIL import Image

        grey = np.asarray(Image.fromarray(grey).resize((carm.columns, carm.rows), Image.Resampling.BILINEAR))
    write_png(path, over(grey, drawn))
    if layer_path is not None:
        write_png(layer_path, drawn)
    on_progress(Step.DRAW, 1.0)


def pick_files(result: Path, pixel: tuple[float, float], vessels: Path | None, view: int = 0) -> dict[str, Any]:
    """The ray of a pixel (column, row) of a registered DSA (view from 0), CTA RAS mm, and the vessel point nearest to it."""
    from DeepIterRegLib.results.report.outputs import carm_of_view, read_registration
    from DeepIterRegLib.results.roadmap import nearest_vessel, ray
    from DeepIterRegLib.results.roadmap.files import vessel_points

    registration = read_registration(result)
    carm = carm_of_view(registration, view)
    column, row = pixel
    if not carm.contains(np.array([column, row])):
        raise InputError(
            f"Pixel {column:g},{row:g} (column,row) lies outside the image of {carm.columns} columns and {carm.rows} rows."
        )
    beam = ray(carm, pixel, registration.cta_to_carm)
    answer: dict[str, Any] = {
        "pixel": [column, row],
        "source_cta_mm": beam.source_mm.tolist(),
        "direction_cta": beam.direction.tolist(),
    }
    if vessels is not None:
        found = nearest_vessel(calling("vessels", vessel_points)(vessels), beam)
        at = carm.project(found.point_mm[None], registration.cta_to_carm)[0]
        answer["nearest"] = {
            "point_cta_mm": found.point_mm.tolist(),
            "distance_mm": found.distance_mm,
            "depth_mm": found.depth_mm,
            "pixel": at.tolist(),
        }
    return answer


def _carm_of(run: Angiogram, geometry: GeometryOptions, size: tuple[int, int] | None, pose_path: Path | None) -> CArm:
    """The run's C-arm at a size, as its header has it or as the result of `pose_path` does."""
    carm = _registered_carm(run, geometry, pose_path)
    return carm if size is None else carm.resampled(*size)


def _registered_carm(run: Angiogram, geometry: GeometryOptions, pose_path: Path | None) -> CArm:
    """The run's C-arm, or as the result of `pose_path` has it: its header may have been corrected, or the head have moved.

    A transform holds no C-arm, and what is typed counts.
    """
    from DeepIterRegLib.registration.result import content_hash, hash_name
    from DeepIterRegLib.results.report.outputs import read_registration

    if pose_path is None or pose_path.suffix.lower() != ".json" or geometry != GeometryOptions():
        return run.carm
    try:
        registration = read_registration(pose_path)
    except InputError:  # a pose and nothing else
        return run.carm
    digest = content_hash(run.frames)
    own = (
        view.carm for n, view in enumerate(registration.views) if registration.input_hashes.get(hash_name(n)) == digest
    )
    return next(own, run.carm)


def _view(like: Path | None, geometry: GeometryOptions, size: tuple[int, int] | None, pose_path: Path | None) -> CArm:
    if like is not None:
        return _carm_of(calling("like", read_angiogram)(like, geometry), geometry, size, pose_path)
    if size is None:
        raise InputError(Message("Nothing says how large the image is", give=("like", "size")))
    from DeepIterRegLib.images.dicom.geometry_tags import read_carm

    carm, _ = read_carm(None, *size, geometry)
    return carm


def _ray_cast(cta: Volume, carm: CArm, cta_to_carm: np.ndarray, device: Device) -> np.ndarray:
    import torch

    from DeepIterRegLib.rendering.raycast import RaycastProjector, attenuation_per_mm

    card = named(device)
    device_name = card.device if card else "cpu"
    projector = RaycastProjector(attenuation_per_mm(cta), carm, "joseph", device=device_name)
    with torch.no_grad():
        image: np.ndarray = projector(torch.as_tensor(cta_to_carm)[None])[0].cpu().numpy()
    return image
