"""How good registrations are: measures, and the experiments of the two papers.

A: Downs et al., "Improving automatic cerebral 3D-2D CTA-DSA registration", International Journal of Computer Assisted Radiology
and Surgery 20:1451-1460 (2025), doi 10.1007/s11548-025-03412-2. Numbers such as A 4.4 are sections of the thesis behind it.

B: Alfiansyah, Muhimmah, Sasongko, Sulastomo, Wiyono, "A Method for Fast and Robust Intensity Based 2D/3D Registration in
Differentiable Framework", Journal of Computer Science 20:1593-1601 (2024), doi 10.3844/jcssp.2024.1593.1601.
"""
