"""What of a CT bone encloses. Compiled code."""

from __future__ import annotations

import numpy as np

from DeepIterRegLib.common.compiler import njit

_NEIGHBOURS = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1) if a or b or c])


def directions_to_bone(bone: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """In how many of 26 directions (z, y, x) uint8 bone is met before air; the file's edge counts as bone: what follows is unknown."""
    count = np.zeros(bone.shape, dtype=np.uint8)
    for step in _NEIGHBOURS:
        # One sweep a direction, from its far end: the neighbour's answer is known when a voxel's turn comes.
        turned = tuple(np.s_[::-1] if s > 0 else np.s_[:] for s in step)
        _sweep(bone[turned], tissue[turned], -np.abs(step), count[turned])
    return count


@njit(cache=True, nogil=True)
def _sweep(bone, tissue, step, count):  # type: ignore[no-untyped-def]
    """Add 1 to `count` (z, y, x) where bone is met along `step` (3,), whose parts are 0 or -1."""
    nz, ny, nx = bone.shape
    before = np.ones((ny, nx), dtype=np.bool_)
    now = np.ones((ny, nx), dtype=np.bool_)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if bone[z, y, x]:
                    met = True
                elif not tissue[z, y, x]:
                    met = False
                else:
                    b, c = y + step[1], x + step[2]
                    if z + step[0] < 0 or b < 0 or c < 0:
                        met = True
                    elif step[0] == 0:
                        met = now[b, c]
                    else:
                        met = before[b, c]
                now[y, x] = met
                if met:
                    count[z, y, x] += 1
        before, now = now, before
