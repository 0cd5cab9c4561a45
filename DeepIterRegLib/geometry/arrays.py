"""One place that makes geometry work on numpy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any

import array_api_compat

# numpy.ndarray or torch.Tensor: whatever comes in goes out, with the same dtype and device.
Array = Any


def namespace(*arrays: Array) -> Any:
    """Array-API namespace shared by all arguments that are arrays (numbers are ignored)."""
    return array_api_compat.array_namespace(*[a for a in arrays if not isinstance(a, (int, float, tuple, list))])


def like(values: Any, reference: Array) -> Array:
    """`values`, nested numbers or an array (...), as an array (...) of the kind, dtype and device of `reference`, whatever its shape."""
    xp = namespace(reference)
    return xp.asarray(values, dtype=reference.dtype, device=array_api_compat.device(reference))


def to_float(array: Array) -> Array:
    """An array (...) as floating point (...): integers are converted, floating arrays pass unchanged."""
    xp = namespace(array)
    return array if xp.isdtype(array.dtype, "real floating") else xp.astype(array, xp.float64)
