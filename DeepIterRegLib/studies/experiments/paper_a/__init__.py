"""Paper A's experiments: which anatomy registers, capture range, the pipeline's stages, loss traces, and how heads lie.

Downs et al., Improving automatic cerebral 3D-2D CTA-DSA registration, Int J Comput Assist Radiol Surg 20:1451-1460 (2025),
doi 10.1007/s11548-025-03412-2. Figures numbered 3.x are those of its supplement.
"""
