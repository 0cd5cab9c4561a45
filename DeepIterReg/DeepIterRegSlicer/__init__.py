"""The Slicer side of DeepIterReg: nodes to library objects and back, logic, worker. The numerics are in DeepIterRegLib."""
