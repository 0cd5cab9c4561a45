"""Whole studies: the papers' experiments, and blinded comparison by readers."""
