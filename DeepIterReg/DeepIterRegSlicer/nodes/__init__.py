"""Slicer to library: nodes become volumes, angiograms, masks, poses and points.

Every `...Source` is called on the main thread, checks the node, and returns a function without arguments that any thread may
call: it holds voxels and matrices, no node, so that a node deleted or changed afterwards does no harm.
"""
