"""Plain tools that know nothing of medicine."""
