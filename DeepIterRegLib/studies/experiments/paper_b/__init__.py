"""Paper B's experiments: time of a DRR, loss landscape, optimisers, and a thousand random poses.

Alfiansyah, Muhimmah, Sasongko, Sulastomo, Wiyono, A Method for Fast and Robust Intensity Based 2D/3D Registration in Differentiable
Framework, Journal of Computer Science 20(12):1593-1601 (2024), doi 10.3844/jcssp.2024.1593.1601.
"""
