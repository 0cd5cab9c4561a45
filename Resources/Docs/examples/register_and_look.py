"""Register a CTA to a DSA from Python, and look at the result: overlay, score, confidence.

python register_and_look.py                                       a synthetic patient, made here
python register_and_look.py cta.nii.gz run.dcm --out look.png     your files

Needs matplotlib: pip install '.[plots]'. Research use only. Not a medical device.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from DeepIterRegLib.geometry import mpe_mm, pose
from DeepIterRegLib.images.angiogram import Angiogram
from DeepIterRegLib.images.dicom import read_angiogram
from DeepIterRegLib.images.files import load_volume
from DeepIterRegLib.images.volume import Volume
from DeepIterRegLib.phantom import make_patient, write_patient
from DeepIterRegLib.registration.pipeline import register
from DeepIterRegLib.registration.result import Registration
from DeepIterRegLib.results.report import vessel_projection
from DeepIterRegLib.segmentation.cta.vessels import segment_vessels

COLOURS = {"accepted": "#1b7a3a", "look closely": "#b36b00", "rejected": "#b3202a"}
HALF_MM = 3.0  # so much vessel along a ray covers half of the DSA


def main() -> None:
    """Read or make a patient, register, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cta", nargs="?", type=Path, help="CTA: file, or folder of a DICOM series")
    parser.add_argument("dsa", nargs="?", type=Path, help="DSA: DICOM XA file")
    parser.add_argument("--out", type=Path, default=Path("look.png"), help="picture to write (default: %(default)s)")
    arguments = parser.parse_args()
    if (arguments.cta is None) != (arguments.dsa is None):
        parser.error("give both, a CTA and a DSA, or neither")

    if arguments.cta is None:
        with TemporaryDirectory() as folder:
            patient = make_patient(seed=1)
            write_patient(patient, Path(folder))
            cta, dsa = load_volume(Path(folder, "cta.nii.gz")), read_angiogram(Path(folder, "dsa.dcm"))
        truth = patient.cta_to_carm
    else:
        cta, dsa, truth = load_volume(arguments.cta), read_angiogram(arguments.dsa), None

    vessels = segment_vessels(cta)
    result = register(cta, dsa, cta_mask=vessels, on_warning=print)
    assert result.confidence is not None
    print(result.confidence.summary)
    if truth is not None:
        error_mm = float(mpe_mm(result.carm, result.cta_to_carm, truth, result.centre_cta_mm))
        print(f"MPE to the truth: {error_mm:.2f} mm on the detector.")

    picture(result, dsa, vessels).savefig(arguments.out, dpi=100)
    print(f"Written: {arguments.out}")


def picture(result: Registration, dsa: Angiogram, vessels: Volume) -> Figure:
    """DSA, vessels at the radiological pose and as registered; below them scores and confidence."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplot_mosaic([["dsa", "before", "after"], ["scores", "trust", "trust"]], height_ratios=(2, 1))
    draw_overlay(axes["dsa"], dsa)
    axes["dsa"].set_title("DSA, MinIP")
    start = pose.radiological(result.centre_cta_mm)
    draw_overlay(axes["before"], dsa, vessel_projection(vessels, result.carm, start))
    axes["before"].set_title(f"Radiological pose: score {result.init.score_radiological:.2f}")
    draw_overlay(axes["after"], dsa, vessel_projection(vessels, result.carm, result.cta_to_carm))
    axes["after"].set_title(f"Registered: score {result.score:.2f}")
    draw_scores(axes["scores"], result)
    draw_confidence(axes["trust"], result)
    return figure


def draw_overlay(axes: Axes, dsa: Angiogram, projection_mm: np.ndarray | None = None) -> None:
    """The run's MinIP (row, column) in grey, the projection of the CTA's vessels over it in red."""
    minip = dsa.minip()
    low, high = np.quantile(minip[dsa.valid], (0.005, 0.995))
    axes.imshow(minip, cmap="gray", vmin=low, vmax=high)
    if projection_mm is not None:
        red = np.zeros((*projection_mm.shape, 4))
        red[..., 0], red[..., 3] = 0.85, projection_mm / (projection_mm + HALF_MM)
        axes.imshow(red)
    axes.set_axis_off()


def draw_scores(axes: Axes, result: Registration) -> None:
    """Scores, stage after stage, relative to the stage's last: neither stages nor the resolutions within one compare."""
    first = 0
    for stage in result.stages:
        steps = np.arange(len(stage.scores)) + first
        axes.plot(steps, np.array(stage.scores) / stage.score, "o-", markersize=3, label=stage.name)
        first += len(stage.scores)
    axes.set(xlabel="step", ylabel="score / last of its stage", title="Scores")
    axes.legend(fontsize="small")


def draw_confidence(axes: Axes, result: Registration) -> None:
    """State, probability, expected error and what speaks against the result."""
    assert result.confidence is not None
    confidence = result.confidence
    colour = COLOURS[confidence.state]
    axes.barh([0], [confidence.probability], color=colour, height=0.5)
    axes.set(
        xlim=(0, 1), ylim=(-3.2, 0.8), yticks=[], xlabel="probability that the MPE is below 5 mm", title="Confidence"
    )
    lines = [confidence.error_words.capitalize(), *confidence.reasons, *result.warnings]
    axes.text(0.02, -0.5, confidence.state.upper(), color=colour, weight="bold", va="top")
    axes.text(0.02, -0.95, "\n".join(textwrap.fill(line, 110) for line in lines), fontsize="small", va="top")


if __name__ == "__main__":
    main()
