"""What a phantom patient may vary in; every range is drawn from uniformly by seed.

The ranges are what neuro-CTA and neuro-angiography commonly use or show, widened so that real patients lie inside; they are not fitted to
a series of patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from DeepIterRegLib.common.errors import InputError

Range = tuple[float, float]
Injection = Literal["left_ica", "right_ica", "vertebrobasilar", "everything"]
Occlusion = Literal["none", "M1", "M2", "A2", "P2", "basilar"]
View = Literal["ap", "lateral"]
_STEPS_OF_A_PROCEDURE = 6  # between eight runs there are seven, and in one of them the head is laid anew


@dataclass(frozen=True)
class HeadSettings:
    """Anatomy. `scale` stretches each axis by its own factor; `tilt_deg` and `shift_mm` place the head in the scanner.

    Adult heads differ by about 5 % (one deviation) in length and width.
    """

    scale: Range = (0.94, 1.06)
    tilt_deg: float = 8.0
    shift_mm: float = 15.0


@dataclass(frozen=True)
class CtaSettings:
    """The CTA: grid, enhancement, noise.

    Attributes
    ----------
    in_plane_spacing_mm, slice_spacing_mm
    field_mm
        Side of the reconstructed field.
    bottom_mm, top_mm
        Ends of the scan in the canonical frame: some scans begin at the skull base, some in the neck.
    max_voxels
        (i, j, k), bounds the grid; the field shrinks to fit.
    artery_hu
        Of large arteries: 260 is late or thin contrast, 440 the peak.
    vein_fraction
        Of the arteries' enhancement that veins have: by the time between injection and scan.
    noise_hu
        Standard deviation.
    resolution_mm
        Standard deviation of the scanner's point spread.
    """

    in_plane_spacing_mm: Range = (0.45, 0.6)
    slice_spacing_mm: Range = (0.45, 0.7)
    field_mm: Range = (210.0, 235.0)
    bottom_mm: Range = (-125.0, -80.0)
    top_mm: Range = (80.0, 105.0)
    max_voxels: tuple[int, int, int] = (512, 512, 400)
    artery_hu: Range = (260.0, 440.0)
    vein_fraction: Range = (0.35, 0.95)
    noise_hu: Range = (8.0, 18.0)
    resolution_mm: Range = (0.3, 0.45)


@dataclass(frozen=True)
class ViewSettings:
    """The C-arm.

    Attributes
    ----------
    views
    angle_deg
        Largest deviation of both angles from the view's.
    sid_mm, sod_mm
        Source to detector, source to isocentre.
    matrices
        Numbers of columns.
    field_mm
        Detector fields (rows, columns) to choose from.
    """

    views: tuple[View, ...] = ("ap", "lateral")
    angle_deg: float = 10.0
    sid_mm: Range = (1000.0, 1250.0)
    sod_mm: Range = (700.0, 800.0)
    matrices: tuple[int, ...] = (512, 1024)
    field_mm: tuple[tuple[float, float], ...] = (
        (200.0, 200.0),
        (250.0, 250.0),
        (300.0, 300.0),
        (300.0, 400.0),
        (400.0, 400.0),
    )


@dataclass(frozen=True)
class OffsetSettings:
    """Head offset from the radiological pose, uniform on each axis (x, y, z of the C-arm frame)."""

    rotation_deg: tuple[float, float, float] = (35.0, 35.0, 35.0)
    translation_mm: tuple[float, float, float] = (40.0, 40.0, 40.0)


@dataclass(frozen=True)
class RunSettings:
    """The DSA run.

    Attributes
    ----------
    injections, injection_weights
        Most thrombectomies are of the anterior circulation.
    occlusions, occlusion_weights
        Most of the M1 and M2.
    frames_per_s, duration_s
    mask_frames
        Fewest and most frames before contrast.
    artery_attenuation_per_mm
        Of undiluted contrast: about 300 mg iodine per mL, mixed with the artery's blood.
    vein_fraction
        Of the concentration that mixing alone would leave: the bolus is longer in veins.
    blush_fraction
        Of the capillary bed against two mm of artery.
    motion_mm, motion_deg
        Largest shift and turn from where the head lay at peak contrast.
    photons
        Reach a 0.3 mm pixel behind the middle of the head in each frame; 0 means no quantum noise.
    detector_blur_px
        Standard deviation.
    scatter_fraction
        Of the primary beam: an antiscatter grid leaves some tenths.
    catheter
    collimated_fraction
        Largest share of the image that a blade of the collimator hides.
    """

    injections: tuple[Injection, ...] = ("left_ica", "right_ica", "vertebrobasilar")
    injection_weights: tuple[float, ...] = (0.45, 0.45, 0.1)
    occlusions: tuple[Occlusion, ...] = ("none", "M1", "M2", "A2", "P2")
    occlusion_weights: tuple[float, ...] = (0.3, 0.25, 0.3, 0.1, 0.05)
    frames_per_s: Range = (2.0, 4.0)
    duration_s: Range = (8.0, 14.0)
    mask_frames: tuple[int, int] = (1, 3)
    artery_attenuation_per_mm: Range = (0.07, 0.13)
    vein_fraction: Range = (0.35, 0.6)
    blush_fraction: Range = (0.01, 0.03)
    motion_mm: float = 1.0
    motion_deg: float = 1.0
    photons: Range = (4000.0, 12000.0)
    detector_blur_px: Range = (0.4, 0.8)
    scatter_fraction: Range = (0.1, 0.35)
    catheter: bool = True
    collimated_fraction: float = 0.06


@dataclass(frozen=True)
class SkullSettings:
    """How the skull in the run differs from the skull in the CTA. Nothing by default: both are the same densities.

    Attributes
    ----------
    jaw_deg
        Largest opening of the jaw in the run.
    headrest
        A plate and wires, in the run only.
    hardening
        Beam hardening: a line integral L is seen as L - hardening x L^2. 0.03 takes a tenth from the middle of a head (L about 3).
    scan_blur_mm
        Blur of the CT scanner; with it, bone is up to 8 % too dense or too light.
    """

    jaw_deg: float = 0.0
    headrest: bool = False
    hardening: float = 0.0
    scan_blur_mm: float = 0.0


DIFFERENT_SKULL = SkullSettings(jaw_deg=10.0, headrest=True, hardening=0.03, scan_blur_mm=0.7)


@dataclass(frozen=True)
class PhantomSettings:
    """Everything a phantom patient may vary in."""

    head: HeadSettings = HeadSettings()
    cta: CtaSettings = CtaSettings()
    view: ViewSettings = ViewSettings()
    offset: OffsetSettings = OffsetSettings()
    run: RunSettings = RunSettings()
    skull: SkullSettings = SkullSettings()

    def __post_init__(self) -> None:
        problems = []
        if not (len(self.run.injections) == len(self.run.injection_weights) > 0):
            problems.append("The phantom needs as many injection weights as injections, at least one.")
        if not (len(self.run.occlusions) == len(self.run.occlusion_weights) > 0):
            problems.append("The phantom needs as many occlusion weights as occlusions, at least one.")
        if min(self.run.mask_frames) < 1:
            problems.append("The phantom needs at least one mask frame to subtract.")
        if not self.view.views or not self.view.matrices or not self.view.field_mm:
            problems.append("The phantom needs at least one view, one matrix and one detector field.")
        if problems:
            raise InputError(problems)


# Paper B's setting: the DSA shows exactly the vessels of the CTA, without noise, motion or tools.
CLEAN = PhantomSettings(
    run=RunSettings(
        injections=("everything",),
        injection_weights=(1.0,),
        occlusions=("none",),
        occlusion_weights=(1.0,),
        motion_mm=0.0,
        motion_deg=0.0,
        photons=(0.0, 0.0),
        blush_fraction=(0.0, 0.0),
        scatter_fraction=(0.0, 0.0),
        catheter=False,
        collimated_fraction=0.0,
    )
)


@dataclass(frozen=True)
class ProcedureSettings:
    """What the runs of a thrombectomy may differ in.

    Attributes
    ----------
    patient
        Head, CTA and each run. A carotid is injected and its M1 occluded, whatever injections and occlusions this has.
    between_runs_deg, between_runs_mm
        Largest turn and shift of the head from a run to the next: awake patients turn the head by some degrees.
    still_steps
        Of the steps between runs in which the head hardly moves: sedated or between two breaths, as AP and lateral often are.
    repositioned_mm
        The one shift by which the head is laid anew, once in a procedure.
    view_deg
        Largest difference of both angles from the procedure's own AP or lateral view: the operator returns to it by hand.
    header_scale
        Largest share by which the headers' SID is wrong, in all runs alike: calibrations of C-arms hold to about 1 %.
    header_isocentre_mm
        Largest error, along the detector's rows and columns, of where headers put the isocentre, in all runs alike: a few pixels.
    next_view_min
        Minutes until the same state is shown from another direction.
    pass_min
        Minutes until the next run where a pass of the stent retriever, or of the catheter to the other carotid, comes between.
    """

    patient: PhantomSettings = PhantomSettings()
    between_runs_deg: float = 4.0
    between_runs_mm: float = 4.0
    still_steps: int = 2
    repositioned_mm: float = 15.0
    view_deg: float = 3.0
    header_scale: float = 0.01
    header_isocentre_mm: float = 1.0
    next_view_min: Range = (1.0, 4.0)
    pass_min: Range = (8.0, 20.0)

    def __post_init__(self) -> None:
        if self.still_steps < 0 or self.still_steps > _STEPS_OF_A_PROCEDURE:
            raise InputError(
                f"The head can hardly move in 0 to {_STEPS_OF_A_PROCEDURE} steps between the runs of a procedure."
            )
