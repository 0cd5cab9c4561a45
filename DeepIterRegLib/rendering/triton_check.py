"""Whether Triton's kernels run on this computer's card."""

from __future__ import annotations

from functools import cache


@cache
def triton_runs(device: str) -> bool:
    """Whether a kernel can be compiled for a card and run there; tried once for each.

    torch for Windows comes without Triton, and Triton needs a C compiler, which many computers of users lack.
    """
    try:
        import torch
        import triton
        import triton.language as tl

        @triton.jit
        def _double(values, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
            i = tl.arange(0, BLOCK)
            tl.store(values + i, 2 * tl.load(values + i))

        values = torch.ones(16, device=device)
        _double[(1,)](values, BLOCK=16)
        return bool((values == 2).all())
    except Exception:  # whatever it is, torch's own operations do the work
        return False
