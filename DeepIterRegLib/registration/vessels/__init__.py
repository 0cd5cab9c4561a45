"""How vessels find the pose: points against the run's vessels, second-order refinement, global search."""
