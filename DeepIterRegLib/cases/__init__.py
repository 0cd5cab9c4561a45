"""Files in, files out: one case, or a table of them."""
