"""Where the machines of a cluster meet: a shared folder or an object store, through fsspec.

A run has a folder in the store, with the newest checkpoints while it lasts and the results when it
has ended. A machine trains in a folder of its own and sends what is new. Two machines that train
the same run by mistake do each other no harm: a checkpoint counts only with its sum, and it carries
all that a run needs to go on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from memnb.errors import RunError
from memnb.evidence.rows import RESULT_FILES
from memnb.train.files import CHECKPOINTS_KEPT, counting, step_of, sum_file
from memnb.train.record import has_ended, record_of

log = logging.getLogger(__name__)

#: What is brought home of a run that has ended. The record comes last: without it, nothing counts.
KEPT = (*(name for name in RESULT_FILES if name != "run.json"), "best.pt", "run.json")
_LOOK_EVERY = 1.0  # seconds between two looks for a new checkpoint


class Store:
    """Run folders at ``url``, such as ``/shared/runs``, ``s3://bucket/runs`` or ``gs://...``.

    Raises:
        RunError: fsspec does not know this kind of address, or needs a package for it.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise RunError(
                f"The store {url} cannot be used ({error}); install that package on every machine "
                "of the sweep."
            ) from None
        except ValueError as error:
            raise RunError(
                f"The store {url} cannot be used ({error}); name a folder that all machines see, "
                "or an address such as s3://bucket/runs."
            ) from None

    def path(self, run_id: str, name: str = "") -> str:
        """Where a file of a run is, in the store's own terms."""
        return f"{self.root.rstrip('/')}/{run_id}/{name}".rstrip("/")

    def names(self, run_id: str) -> list[str]:
        """The files that the store has of a run."""
        self.files.invalidate_cache()
        try:
            found = self.files.ls(self.path(run_id), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def pull(self, run_id: str, folder: Path) -> None:
        """Bring the results of a run that has ended, else its checkpoints, into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        names = self.names(run_id)
        saved = [name for name in names if step_of(name) is not None]
        for name in [name for name in KEPT if name in names] + saved:
            try:
                content = self.files.cat_file(self.path(run_id, name))
            except FileNotFoundError:
                continue  # dropped since: there is a newer one
            (folder / name).write_bytes(content)

    def push_checkpoints(self, run_id: str, folder: Path, sent: set[str]) -> None:
        """Send the newest checkpoint unless it is in ``sent``, and drop all but the newest two."""
        whole = counting(folder)[:CHECKPOINTS_KEPT]
        if not whole or whole[0].name in sent:
            return
        newest = whole[0]
        for path in (newest, sum_file(newest)):  # the sum last
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return  # overtaken: the next look finds a newer one
            self._put(run_id, path.name, content)
        sent.add(newest.name)
        kept = {step_of(path.name) for path in whole}
        for name in self.names(run_id):
            if step_of(name) not in (None, *kept):
                self._drop(run_id, name)

    def push_results(self, run_id: str, folder: Path) -> None:
        """Send the results of a run that has ended, the record last, and drop its checkpoints."""
        for name in KEPT:
            if (folder / name).is_file():
                self._put(run_id, name, (folder / name).read_bytes())
        for name in self.names(run_id):
            if step_of(name) is not None:
                self._drop(run_id, name)

    def _put(self, run_id: str, name: str, content: bytes) -> None:
        self.files.makedirs(self.path(run_id), exist_ok=True)
        self.files.pipe_file(self.path(run_id, name), content)

    def _drop(self, run_id: str, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody else did
            self.files.rm_file(self.path(run_id, name))

    @contextlib.contextmanager
    def following(self, run_id: str, folder: Path) -> Iterator[None]:
        """While open, new checkpoints in ``folder`` are sent in the background.

        A store that cannot be reached for a while costs no training: the next look tries again.
        On leaving, what is newest is sent, and if the run has ended, its results; where these
        cannot be sent, they still reach the sweep as what the machine returns.

        Raises:
            Exception: (on leaving) whatever fsspec says where the last checkpoint cannot be sent.
        """
        sent: set[str] = set()
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK_EVERY):
                try:
                    self.push_checkpoints(run_id, folder, sent)
                except Exception as error:  # fsspec's back ends raise what they like
                    log.warning("%s: %s could not be written (%s).", run_id, self.url, error)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if has_ended(record_of(folder)):
                try:
                    self.push_results(run_id, folder)
                except Exception as error:
                    log.warning(
                        "%s: the results could not be written to %s (%s); they are handed back.",
                        run_id,
                        self.url,
                        error,
                    )
            else:
                self.push_checkpoints(run_id, folder, sent)
