"""The two papers whose experiments are repeated here, as modules and pages name them."""

from __future__ import annotations

PAPER_A = (
    "Paper A: Downs et al., Improving automatic cerebral 3D-2D CTA-DSA registration, "
    "Int J Comput Assist Radiol Surg 20:1451-1460 (2025), doi 10.1007/s11548-025-03412-2"
)
PAPER_B = (
    "Paper B: Alfiansyah, Muhimmah, Sasongko, Sulastomo, Wiyono, A Method for Fast and Robust Intensity Based 2D/3D Registration in "
    "Differentiable Framework, J Comput Sci 20(12):1593-1601 (2024), doi 10.3844/jcssp.2024.1593.1601"
)
