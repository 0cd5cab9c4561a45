"""The forms of the module's panel: each owns some widgets, none computes."""
