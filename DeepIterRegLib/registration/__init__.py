"""From volume and angiogram to the pose: initial pose, refinement, confidence."""
