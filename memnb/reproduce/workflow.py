"""Reproduce: train what is missing, execute the notebooks, write the report.

Whatever was finished before is kept: a run that has ended is not trained again, and a notebook is
not executed again while its source, its parameters, its rows, the data, the code and its outputs
are the same. So a killed call goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from memnb import __version__, paths
from memnb.config import Run
from memnb.errors import MemnbError, RunError, unknown
from memnb.evidence import benchmarks, rows
from memnb.files import lock
from memnb.reproduce import cost, manifest, notebooks, plan
from memnb.reproduce.files import content_hash, telling, write
from memnb.reproduce.manifest import Artefact, Manifest
from memnb.reproduce.progress import Display, choose
from memnb.reproduce.report import Entry, Step, Training, write_report
from memnb.reproduce.trainer import TRAIN, missing, train_missing
from memnb.reproduce.workers import Ended, Stop, cores, run_jobs
from memnb.tasks import catalogue
from memnb.train.record import record_of
from memnb.words import counted, duration

_NOTEBOOK_GRACE = 5.0


@dataclass(frozen=True)
class Result:
    """How a call of :func:`reproduce` ended.

    Attributes:
        exit_code: 0, 1 if a run or a notebook failed, 130 or 143 if it was interrupted.
        report: the page of results; None if it was interrupted before there was one.
        failures: one sentence each.
    """

    exit_code: int
    report: Path | None
    failures: tuple[str, ...]


def reproduce(
    preset: str = "quick",
    only: Iterable[str] = (),
    out: str | Path | None = None,
    *,
    jobs: int | None = None,
    device: str = "auto",
    display: Display | None = None,
    stop: Stop | None = None,
    source: Manifest | None = None,
    function: str = TRAIN,
) -> Result:
    """Reproduce the artefacts of the study.

    Args:
        preset: ``stored`` draws committed rows, ``quick`` also trains small models, ``paper``
            trains the full protocol.
        only: ids of artefacts; none for all.
        out: the output folder (:func:`memnb.paths.output`).
        jobs: processes at a time; by default one per core, but one for ``paper``, whose runs
            fill a graphics card or all cores.
        device: where to train: ``auto``, ``cpu`` or ``cuda``.
        display: shows how far things are; by default what fits where the process runs.
        stop: once it is asked for, what runs is saved and the call returns.
        source: the manifest; by default the one beside the notebooks.
        function: ``module:name`` of the training function.

    Raises:
        MemnbError: an unknown preset or artefact, or a wrong manifest.
        RunError: the output folder cannot be written, another call is at work in it, or no worker
            came as far as its first job.
    """
    if preset not in plan.PRESETS:
        raise unknown("preset", preset, plan.PRESETS)
    source = source or manifest.load()
    chosen = source.select(only)
    call = _Call(source, preset, paths.output(out), display or choose(), stop or Stop())
    with _alone(call.report), closing(call.display):
        training = call.train(chosen, jobs, device, function)
        if call.stop():
            return call.interrupted()
        call.execute(chosen, jobs or cores())
        if call.stop():
            return call.interrupted()
        return call.write_report(chosen, training)


class _Call:
    """One call of :func:`reproduce`."""

    def __init__(
        self, source: Manifest, preset: str, out: Path, display: Display, stop: Stop
    ) -> None:
        self.source = source
        self.preset = preset
        self.out = out
        self.report = paths.report(out)
        self.display = display
        self.stop = stop
        self.began = time.monotonic()
        self.kept: set[str] = set()
        self.dropped: list[str] = []

    def train(
        self, chosen: Sequence[Artefact], jobs: int | None, device: str, function: str
    ) -> Training:
        folder = paths.runs(self.out)
        runs = plan.together({name for each in chosen for name in each.sets}, self.preset)
        todo = missing(runs, folder)
        self.announce(runs, todo)
        start = time.monotonic()
        ended = train_missing(
            todo,
            folder,
            jobs=jobs or (1 if self.preset == "paper" else cores()),
            device=device,
            display=self.display,
            should_stop=self.stop,
            function=function,
        )
        return Training(tuple(runs), folder, ended, time.monotonic() - start)

    def announce(self, runs: Sequence[Run], todo: Sequence[Run]) -> None:
        """Say what is about to be trained, and for the full protocol what it costs."""
        if not runs:
            return
        ended = len(runs) - len(todo)
        planned = counted(len(runs), "run")
        self.display.note(f"Training: {planned}, {ended} of them ended before, {len(todo)} to do.")
        if self.preset == "paper" and todo:
            for task in dict.fromkeys(run.task.title for run in todo):
                count = sum(run.task.title == task for run in todo)
                self.display.note(f"  {task}: {counted(count, 'run')} under the full protocol")
            stored = rows.load_runs(paths.stored_results())
            speeds = cost.Speeds(stored, timings=benchmarks.load(benchmarks.stored()))
            self.display.note(f"Cost: {cost.sentence(todo, speeds)}")
            self.display.note(
                "Ctrl-C saves and stops at any time; the same command goes on. Runs are kept in "
                f"{paths.runs(self.out)}."
            )

    def execute(self, chosen: Sequence[Artefact], jobs: int) -> None:
        """Execute the notebooks whose outputs are not up to date."""
        todo = self.stale(chosen)
        self.kept = {artefact.id for artefact in chosen} - set(todo)
        if self.kept:
            self.display.note(
                f"Notebooks: {len(self.kept)} of {len(chosen)} are up to date and kept."
            )
        watch = _NotebookWatch([artefact for artefact, _ in todo.values()], jobs, self.display)
        start_long_ones_first = sorted(todo, key=lambda name: -todo[name][0].seconds)

        def end(ended: Ended) -> None:
            artefact, digest = todo[ended.name]
            if not ended.stopped:
                self.remember(artefact, digest, ended)
                watch.end(ended)

        # A worker that is stopped or killed cleans nothing up itself.
        with tempfile.TemporaryDirectory(prefix="memnb-", ignore_cleanup_errors=True) as scratch:
            run_jobs(
                notebooks.job,
                {name: self.payload(todo[name][0], scratch) for name in start_long_ones_first},
                processes=jobs,
                should_stop=self.stop,
                on_end=end,
                on_tick=watch.show,
                grace=_NOTEBOOK_GRACE,
            )

    def stale(self, chosen: Sequence[Artefact]) -> dict[str, tuple[Artefact, str]]:
        """The artefacts to execute, each with the digest of what it will be made from."""
        inputs = _digest_of_inputs(self.preset, self.out)
        digests = {artefact.id: (artefact, self.digest(artefact, inputs)) for artefact in chosen}
        return {name: each for name, each in digests.items() if not self.up_to_date(*each)}

    def payload(self, artefact: Artefact, scratch: str) -> dict[str, Any]:
        """The arguments of :func:`memnb.reproduce.notebooks.execute`."""
        return {
            "notebook": self.source.notebook(artefact),
            "parameters": artefact.parameters(self.preset, self.out),
            "executed": self.executed(artefact),
            "outputs": artefact.files(self.report),
            "timeout": artefact.timeout,
            "scratch": Path(scratch),
        }

    def executed(self, artefact: Artefact) -> Path:
        return self.report / "notebooks" / artefact.notebook

    def step_file(self, artefact: Artefact) -> Path:
        return self.report / "steps" / f"{artefact.id}.json"

    def digest(self, artefact: Artefact, inputs: str) -> str:
        parts = [
            self.source.notebook(artefact).read_text(encoding="utf-8"),
            json.dumps(artefact.parameters(self.preset, self.out), sort_keys=True),
            inputs,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def files(self, artefact: Artefact) -> list[Path]:
        """What executing the notebook has to leave in the report."""
        return [*artefact.files(self.report), self.executed(artefact)]

    def outputs(self, artefact: Artefact) -> dict[str, str]:
        """Hashes of what executing the notebook leaves; empty for what has to be there and is not.

        By its path in the report: rows beside a figure and a table may have the same name.
        """
        files = self.files(artefact)
        files += [rows for rows in _rows_beside(files) if rows.is_file()]
        return {path.relative_to(self.report).as_posix(): content_hash(path) for path in files}

    def up_to_date(self, artefact: Artefact, digest: str) -> bool:
        step = self.step(artefact)
        if step is None or step.outcome != "done" or step.digest != digest:
            return False
        return step.outputs == self.outputs(artefact)

    def step(self, artefact: Artefact) -> Step | None:
        """What is remembered of the artefact; None if nothing, or nothing that can be read."""
        return _read_step(self.step_file(artefact))

    def result(self, artefact: Artefact) -> Step | None:
        """What the report can show; None if an earlier call's files were since removed."""
        step = self.step(artefact)
        there = all(self.outputs(artefact).values())
        return step if step is None or step.outcome == "failed" or there else None

    def remember(self, artefact: Artefact, digest: str, ended: Ended) -> None:
        step = Step(
            artefact=artefact.id,
            preset=self.preset,
            digest=digest,
            outcome="failed" if ended.error else "done",
            seconds=ended.seconds,
            error=ended.error,
            details=ended.details,
            outputs={} if ended.error else self.outputs(artefact),
            ended=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        before = self.step(artefact)
        if before is not None and not ended.error:
            self.drop(before)
        write(self.step_file(artefact), step.model_dump_json(indent=1).encode())

    def drop(self, step: Step) -> None:
        """Remove what a notebook once wrote into the report and no notebook writes any more.

        Only what is as it was left: a file that somebody has changed since is theirs.
        """
        made: set[Path] = set()
        for artefact in self.source.artefacts:
            files = self.files(artefact)
            made |= {*files, *_rows_beside(files)}
        for name, digest in step.outputs.items():
            path = self.report / name
            inside = path.parent in {self.report / each for each in _FOLDERS}
            if inside and path not in made and digest and content_hash(path) == digest:
                with contextlib.suppress(OSError):  # what cannot be removed harms nobody
                    path.unlink()
                    self.dropped.append(name)

    def drop_retired(self) -> None:
        """The same for all artefacts that the manifest no longer has; their steps are forgotten."""
        known = {self.step_file(artefact) for artefact in self.source.artefacts}
        for file in sorted({*(self.report / "steps").glob("*.json")} - known):
            step = _read_step(file)
            if step is not None and step.artefact == file.stem:
                self.drop(step)
                with contextlib.suppress(OSError):
                    file.unlink()

    def write_report(self, chosen: Sequence[Artefact], training: Training) -> Result:
        self.drop_retired()
        if self.dropped:
            names = ", ".join(self.dropped)
            self.display.note(f"Removed from the report, since no notebook makes it now: {names}.")
        entries = [
            Entry(
                artefact, self.result(artefact), artefact.id in self.kept, self.executed(artefact)
            )
            for artefact in self.source.artefacts
        ]
        path = write_report(entries, training, self.preset, self.out, time.monotonic() - self.began)
        # An artefact that failed in an earlier call stands in the report, but is not this call's.
        mine = [entry.error for entry in entries if entry.artefact in chosen and entry.error]
        failures = [*training.failures(), *mine]
        for failure in failures:
            self.display.note(f"Failed: {failure}")
        self.display.note(f"Report: {path} ({duration(time.monotonic() - self.began)})")
        return Result(1 if failures else 0, path, tuple(failures))

    def interrupted(self) -> Result:
        self.display.note("Stopped. What is finished is kept; the same command goes on from here.")
        return Result(self.stop.exit_code, None, ())


#: Folders of a report that notebooks write into.
_FOLDERS = ("figures", "tables", "notebooks")


def _rows_beside(files: Iterable[Path]) -> list[Path]:
    """Where the rows behind those ``files`` stand that are figures."""
    return [path.with_suffix(".csv") for path in files if path.suffix == ".png"]


def _read_step(file: Path) -> Step | None:
    """The content of a step's file; None if there is nothing that can be read."""
    try:
        return Step.of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError, MemnbError):
        return None


class _NotebookWatch:
    """What the person in front of the screen sees of the notebooks."""

    def __init__(self, artefacts: Sequence[Artefact], jobs: int, display: Display) -> None:
        self.costs = {artefact.id: artefact.seconds for artefact in artefacts}
        self.jobs = min(jobs, len(artefacts))
        self.display = display
        self.done: dict[str, float] = {}  # seconds that it took, by id
        self.began = time.monotonic()

    def end(self, ended: Ended) -> None:
        self.done[ended.name] = ended.seconds
        how = ended.error or f"done, {duration(ended.seconds)}"
        self.display.note(f"[{len(self.done)}/{len(self.costs)}] notebook {ended.name}: {how}")

    def show(self) -> None:
        fraction = sum(self.costs[name] for name in self.done) / sum(self.costs.values())
        text = f"notebooks, {len(self.done)} of {len(self.costs)} done"
        if self.done:
            # So that the parts of those that run count as well: what all of them will take, shared
            # out, less what is gone.
            whole = sum(self.done.values()) / fraction / self.jobs
            left = max(whole - (time.monotonic() - self.began), 0.0)
            text += f", about {duration(left)} left"
        self.display.update(text, fraction)


@contextmanager
def _alone(report: Path) -> Iterator[None]:
    """Only one call works on a report at a time."""
    with telling(report):
        report.mkdir(parents=True, exist_ok=True)
        try:
            held = lock(report / "reproduce.lock", timeout=0)
        except filelock.Timeout:
            raise RunError(
                f"Another 'memnb reproduce' is at work in {report}; wait for it, or choose another "
                "folder with --out."
            ) from None
    try:
        yield
    finally:
        held.release()


# --- digests ---------------------------------------------------------------------------------


def _digest_of_inputs(preset: str, out: Path) -> str:
    """Hash of what all notebooks read: code, reference numbers, shipped weights, the manifest,
    rows of ``memnb bench`` and of training, and the data of this machine."""
    files = sorted([*paths.reference().glob("*"), *paths.weights().glob("*.*")])
    files += [paths.notebooks() / "manifest.toml", benchmarks.stored()]
    files += [] if preset == "stored" else [benchmarks.file(out)]
    lines = [_digest_of_code()] + [f"{file.name} {content_hash(file)}" for file in files]
    lines += _digest_of_data()
    folders = [paths.stored_results()] + ([] if preset == "stored" else [paths.runs(out)])
    for folder in folders:
        for run in sorted(folder.glob("*/run.json")):
            lines += _digest_of_run(run.parent)
        lines.append("")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _digest_of_code() -> str:
    # The version alone would leave old figures in place while someone works on the drawing. The
    # page of guarantees compares the tests of a checkout with those on record.
    package, root = Path(paths.__file__).parent, paths.checkout()
    files = sorted(package.rglob("*.py")) + sorted(root.glob("tests/*.py") if root else ())
    sources = [f"{file.name} {content_hash(file)}" for file in files]
    return hashlib.sha256("\n".join([__version__, *sources]).encode()).hexdigest()


def _digest_of_data() -> list[str]:
    """Size and time of each data set that is here: to read them would take long."""
    lines = []
    try:
        for status in catalogue.list_data():
            time_ns = status.path.stat().st_mtime_ns if status.ready else 0
            lines.append(f"{status.card.name} {status.size} {time_ns}")
    except (MemnbError, OSError) as error:
        lines.append(str(error))  # the page of the data says what is the matter
    return lines


def _digest_of_run(folder: Path) -> list[str]:
    """Its files' hashes; nothing for a run that no page shows (unfinished, or a custom one)."""
    record = record_of(folder) or {}
    # Of a damaged record nothing is known: the pages name it as a problem.
    if record.get("outcome") in ("running", "interrupted") or record.get("preset") == "custom":
        return []
    return [f"{folder.name}/{name} {content_hash(folder / name)}" for name in rows.RESULT_FILES]
