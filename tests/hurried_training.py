"""The real training, looking around and saving after every step: for tests that cut it off.

``PREEMPT`` in the environment has it send its own process the signal by which Slurm announces that
a job is to be requeued, once a checkpoint is in the store and as long as it has not been resumed.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from memnb.config import Run
from memnb.train import loop

_PAUSE = 0.05


def train(run: Run, folder: Path, **settings: Any) -> dict[str, Any]:
    """As ``memnb.train.loop.train``."""
    loop.SAVE_EVERY = 0.0
    loop.RESPOND_WITHIN = 0.0
    resumed = any(folder.glob("checkpoint-*.pt"))
    tell = settings.pop("progress")

    def progress(now: Any) -> None:
        tell(now)
        time.sleep(_PAUSE)
        store = os.environ.get("PREEMPT")
        if store and not resumed and any(Path(store, run.run_id).glob("checkpoint-*.sha256")):
            os.kill(os.getpid(), signal.SIGUSR2)

    return loop.train(run, folder, progress=progress, **settings)
