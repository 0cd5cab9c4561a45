"""Where the vessels of a head run: laid-out trunks and cortical trees.

Canonical frame: RAS mm, origin in the midline at the level where the carotids end (circle of Willis).
Courses and calibres are typical of adults and varied by seed; they are not measured on patients.
"""

from DeepIterRegLib.phantom.anatomy.vessels import head_vessels

__all__ = ["head_vessels"]
