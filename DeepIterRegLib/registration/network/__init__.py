"""The initial pose by a network (paper A, 3.1): model, training, inference."""
