"""What a process loads first: told step by step, in a process that has loaded nothing."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = """
import json, sys
from DeepIterRegLib.cases.loading import load, loading_steps
from DeepIterRegLib.cases.steps import Steps
from DeepIterRegLib.common.errors import Cancelled
from DeepIterRegLib.common.progress import Progress
from DeepIterRegLib.registration.steps import Step, expected

stop_at, told = float(sys.argv[1]), []

def listen(event):
    told.append([event.step.key, event.done])
    if event.step is Step.LOAD_NETWORK and stop_at <= event.done < 1:
        raise Cancelled

assert "torch" not in sys.modules
progress = Progress(listen)
progress.expect(expected(*loading_steps(network=True)))
try:
    load(Steps(progress, None, []), progress, network=True)
    cancelled = False
except Cancelled:
    cancelled = True
import torch
print(json.dumps([told, cancelled, float(torch.ones(3).sum()), [s.key for s in loading_steps(network=True)]]))
"""


def loaded(stop_at: float) -> tuple[list[tuple[str, float]], bool]:
    """What was told until the end, or until the listener cancels; PyTorch works afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(stop_at)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told, cancelled, total, left = json.loads(done.stdout)
    assert total == 3.0
    assert left == []
    return told, cancelled


def test_the_import_of_the_network_moves_the_bar() -> None:
    told, cancelled = loaded(2.0)
    assert not cancelled
    assert list(dict.fromkeys(step for step, _ in told)) == ["load", "load_network"]
    network = [done for step, done in told if step == "load_network"]
    assert network == sorted(network)
    assert len(set(network)) > 100
    assert network[-1] == 1.0


def test_a_cancel_waits_for_the_import_that_it_met() -> None:
    told, cancelled = loaded(0.3)
    assert cancelled
    assert 0.3 <= told[-1][1] < 0.35
