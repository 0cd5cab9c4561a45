"""A CTA made ready for runs that come one after another."""

from __future__ import annotations

from DeepIterRegLib.cases.case import Case, ReadCta, cta_of, vessels_of
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.common.threads import Beside
from DeepIterRegLib.registration.compiled import compiling_search
from DeepIterRegLib.registration.scene import Head
from DeepIterRegLib.registration.steps import Step, expected


def made_ready(case: Case, on_progress: Progress) -> tuple[Head, ReadCta]:
    """The CTA with all that is made of it, so that the first run waits for nothing."""
    on_progress.expect(expected(Step.READ_CTA, Step.SEGMENT_CTA, Step.CHECK_INPUTS))
    with compiling_search(), Beside() as beside:
        on_progress(Step.READ_CTA, 0.0)
        read = cta_of(case, [], beside)
        on_progress(Step.SEGMENT_CTA, 0.0)
        head = Head(read.cta, vessels_of(case, read, on_progress.of(Step.SEGMENT_CTA)))
        on_progress(Step.CHECK_INPUTS, 0.0)
        head.make_ready()
    on_progress(Step.CHECK_INPUTS, 1.0)
    return head, read
