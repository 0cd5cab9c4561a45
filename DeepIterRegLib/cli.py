"""The command line `deepiterreg`."""
