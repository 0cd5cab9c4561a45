"""The CPU's kernels of search and refinement. Only `registration.compute` calls them."""
