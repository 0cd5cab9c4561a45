"""3D things on the angiogram at a registered pose, and back: a pixel's ray in 3D and the vessel nearest to it."""

from DeepIterRegLib.results.roadmap.draw import burn_notice, grey_frame, layer, over
from DeepIterRegLib.results.roadmap.pick import Ray, nearest_vessel, ray
from DeepIterRegLib.results.roadmap.shapes import Paths, Style, Surface, Thing, depth_image, surface_of_mask

__all__ = [
    "Paths",
    "Ray",
    "Style",
    "Surface",
    "Thing",
    "burn_notice",
    "depth_image",
    "grey_frame",
    "layer",
    "nearest_vessel",
    "over",
    "ray",
    "surface_of_mask",
]
