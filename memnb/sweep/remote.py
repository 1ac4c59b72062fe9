"""One run on a machine of a cluster: begun or taken up, followed into the store, handed over.

It is the same for Ray and Slurm: they differ in how this function is sent to a machine, and in how
its messages come back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memnb import __version__
from memnb.config import Run
from memnb.errors import RunError
from memnb.reproduce import files, trainer, workers
from memnb.reproduce.workers import Ended, JobError
from memnb.sweep.store import KEPT, Store
from memnb.sweep.work import Work
from memnb.train.files import drop_checkpoints
from memnb.train.record import has_ended, record_of

#: Variables of the caller's environment that the machines of a cluster are given as well.
PASSED_ON = ("MEMNB_DATA", "MEMNB_BLOCKS", "MEMNB_COMMIT")


def payload(work: Work, run: Run, **settings: Any) -> dict[str, Any]:
    """What a machine of a cluster is told of a run: plain values, ``settings`` among them."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return trainer.payload(
        run,
        work.folder / run.run_id,
        function=work.function,
        store=work.store,
        deadline=work.deadline,
        environment=environment,
        version=__version__,
        **settings,
    )


def attempt(
    payload: dict[str, Any], report: Callable[[Any], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train one run, or go on with it, on the machine this is called on.

    Args:
        payload: of :func:`payload`; its ``folder`` ends with the run's id.
        report, should_stop: as in :mod:`memnb.reproduce.workers`.

    Returns:
        ``record``, the content of ``run.json``; ``error``, one sentence where the run failed, else
        None; ``files``, by name, the files of a run that has ended.

    Raises:
        MemnbError: the run could not be trained here.
    """
    if payload["version"] != __version__:
        raise RunError(
            f"This machine has memnb {__version__}, but the sweep is one of memnb "
            f"{payload['version']}; install the same version on all machines."
        )
    os.environ.update(payload["environment"])
    deadline = payload["deadline"]

    def stop() -> bool:
        return should_stop() or (deadline is not None and time.time() >= deadline)

    run_id = Path(payload["folder"]).name
    store = Store(payload["store"])
    with tempfile.TemporaryDirectory(prefix="memnb-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / run_id
        store.pull(run_id, folder)
        error = None
        with store.following(run_id, folder):
            try:
                trainer.job({**payload, "folder": str(folder)}, report, stop)
            except JobError as failure:
                error = str(failure)
        record = record_of(folder)
        if record is None:
            raise RunError(error or f"{run_id} left no record; start the same command again.")
        ended = has_ended(record)
        kept = [name for name in KEPT if ended and (folder / name).is_file()]
        return {
            "record": record,
            "error": error,
            "files": {name: (folder / name).read_bytes() for name in kept},
        }


def timed(
    payload: dict[str, Any], report: Callable[[Any], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """:func:`attempt` as what :class:`memnb.reproduce.workers.Ended` is made of, with its seconds:
    what went wrong is told and not raised."""
    began = time.monotonic()
    result = workers.attempt(attempt, payload, report, should_stop)
    return {**result, "seconds": time.monotonic() - began}


def ended(name: str, result: dict[str, Any], folder: Path) -> Ended:
    """How a run ended on another machine; its files, if it has, are written into its folder.

    Args:
        name: the run's id.
        result: what :func:`timed` returned there.
        folder: the folder of run folders here.

    Raises:
        RunError: the disk is full or the folder is read-only.
    """
    value = result.get("value")
    if value is None:
        return Ended(name, **result)
    for file in KEPT:  # the record last
        if file in value["files"]:
            files.write(folder / name / file, value["files"][file])
    if value["files"]:
        drop_checkpoints(folder / name)
    return Ended(name, value["record"], value["error"], seconds=result["seconds"])
