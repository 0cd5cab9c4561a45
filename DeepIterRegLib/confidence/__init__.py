"""How far to trust a registration: features of the pose found, a calibrated model, three states, and checks of the inputs."""
