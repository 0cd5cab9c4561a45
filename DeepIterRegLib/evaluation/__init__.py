"""Studies over many cases: items worked through in one process, several, or many machines."""
