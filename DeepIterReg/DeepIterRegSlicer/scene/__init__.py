"""Library to Slicer: what a registration puts into the scene, and how the views show it."""
