"""The command line: ``memnb COMMAND``. PyTorch is imported by the commands that train."""

from __future__ import annotations

import argparse
import errno
import functools
import io
import json
import math
import os
import re
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from memnb import __version__, config, logs, naming, paths
from memnb.errors import MemnbError, RunError, unknown
from memnb.words import counted, duration

if TYPE_CHECKING:
    import pandas as pd

    from memnb.sweep.local import Machine
    from memnb.sweep.on_ray import Cluster
    from memnb.sweep.on_slurm import Queue
    from memnb.tasks.catalogue import Status

_FORMATS = ("text", "csv", "md")
_SECTIONS = ("model", "task", "training")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; by default those of the process.

    Returns:
        0 if all went well, 1 if a run or a notebook failed or a file could not be used, 2 for a
        mistake in the call, 130 for Ctrl-C, 143 for SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name of a file, or a plus-minus sign, may be more than the terminal's encoding knows.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except MemnbError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        _complain("interrupted; what was finished is kept.")
        # Of SIGTERM, memnb.reproduce.workers says the code.
        return int(interrupt.args[0]) if interrupt.args else 130
    except BrokenPipeError:
        # The reader (such as head) has left. Nothing more can be printed, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _EXPLAINED:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _complain(f"{_EXPLAINED[error.errno]}{where}.")
        return 1


def _complain(sentence: str) -> None:
    # What was typed is quoted: its line breaks and control characters are not for the terminal.
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in sentence
    )
    print(f"memnb: {shown}", file=sys.stderr)


_EXPLAINED = {
    errno.ENOSPC: "The disk is full; free some space or choose another folder with --out",
    errno.EDQUOT: "The disk quota is used up; free some space or choose another folder with --out",
    errno.EROFS: "The folder is read-only; choose another one with --out",
    errno.EACCES: "There is no permission to use a file; choose another folder with --out",
    errno.EPERM: "There is no permission to change a file; choose another folder with --out",
    errno.ENOENT: "A file or folder is not there, or no longer; check its name",
    errno.ENOTDIR: "A file stands where a folder should be; choose another folder with --out",
    errno.EISDIR: "A folder stands where a file should be; choose another folder with --out",
    errno.ENAMETOOLONG: "The name of a file or folder is too long; choose a shorter one",
    errno.ELOOP: "A link leads back to itself; remove it or choose another folder with --out",
    errno.EFBIG: "A file would be larger than it may be; choose another folder with --out",
}


def _run(arguments: list[str]) -> int:
    parser = _parser()
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    values, rest = parser.parse_known_args(arguments)
    if rest:
        # The name of an option ends at "="; what is no option is a word too many.
        options = _options(values.parser if values.command else parser)
        if not rest[0].startswith("-"):
            raise MemnbError(f"'{rest[0]}' is one word too many; see 'memnb {command} --help'.")
        raise unknown("option", rest[0].partition("=")[0], options)
    if values.command is None:
        parser.print_help()
        return 0
    logs.start(values.verbose)
    run: Callable[[argparse.Namespace], int] = values.run
    return run(values)


# --- commands --------------------------------------------------------------------------------


def _reproduce(values: argparse.Namespace) -> int:
    from memnb.reproduce.workers import stop_on_signals
    from memnb.reproduce.workflow import reproduce

    with stop_on_signals() as stop:
        result = reproduce(
            values.preset,
            values.only,
            values.out,
            jobs=values.jobs,
            device=values.device,
            stop=stop,
        )
    return result.exit_code


#: Seconds from Ctrl-C or SIGTERM to the end of 'memnb train', at most; saving takes about one.
_PATIENCE = 3.0


def _train(values: argparse.Namespace) -> int:
    began = time.monotonic()
    changes = _changes(values.set)
    run = config.run_config(
        values.model,
        values.task,
        values.seed,
        model_changes=changes["model"],
        task_changes=changes["task"],
        training_changes=changes["training"],
    )
    budget: float | None = values.budget

    from memnb.reproduce import progress
    from memnb.reproduce.workers import stop_on_signals
    from memnb.train.loop import train

    folder = paths.runs(values.out) / run.run_id
    display = progress.choose()
    display.note(f"{run.run_id} in {folder}")
    with closing(display), stop_on_signals(_PATIENCE) as stop:
        record = train(
            run,
            folder,
            device=values.device,
            deterministic=values.deterministic,
            accumulate=values.accumulate,
            # Importing PyTorch has taken some of it.
            budget=None if budget is None else budget - (time.monotonic() - began),
            progress=progress.follow(display),
            should_stop=stop,
        )
    print(_ending(record))
    if stop():
        return stop.exit_code
    return 1 if record["outcome"] == "failed" else 0


def _ending(record: dict[str, Any]) -> str:
    if record["outcome"] == "failed":
        return f"Failed at step {record['step']:,}: {record['reason']}"
    if record["outcome"] == "interrupted":
        return f"Stopped at step {record['step']:,} and saved; the same command goes on from there."
    return (
        f"Test accuracy {record['test_accuracy']:.2%} (best validation "
        f"{record['validation_accuracy']:.2%} at step {record['best_step']:,}), "
        f"{duration(record['seconds'])} on {record['device_name']}, {record['precision']}."
    )


def _sweep(values: argparse.Namespace) -> int:
    began = time.monotonic()
    place = _one_of("place to sweep on", values.on, ("local", "ray", "slurm"))

    from memnb.reproduce import progress
    from memnb.reproduce.workers import stop_on_signals
    from memnb.sweep import sweep
    from memnb.sweep.planning import Selection

    selection = Selection(
        sets=values.set,
        tasks=values.tasks,
        models=values.models,
        seeds=values.seeds,
        preset=values.preset,
    )
    where = _where(place, values)  # before anything is planned: a dry run refuses what a run would
    missing: sweep.MissingData = "keep" if values.dry_run else "refuse"
    if values.skip_missing_data:
        missing = "leave out"
    plan = sweep.make_plan(selection, values.out, where=where, missing_data=missing)
    for sentence in plan.sentences():
        print(sentence, flush=True)
    if values.dry_run and plan.todo:
        _print(plan.table(), "text")
    if values.dry_run or not plan.todo:
        return 0
    display = progress.choose()
    with stop_on_signals() as stop:
        result = sweep.run(
            plan,
            values.out,
            where=where,
            store=values.store,
            # Planning has taken some of it.
            budget=values.budget and values.budget - (time.monotonic() - began),
            display=display,
            should_stop=stop,
        )
    if len(begun := result.table()):
        _print(begun, "text")
    left = f"; {result.left} to do, the same command goes on" if result.left else ""
    took = duration(result.seconds)
    print(f"{counted(len(begun), 'run')} in {took}, {result.failures} failed{left}.")
    return stop.exit_code if stop() else int(result.failures > 0)


def _where(place: str, values: argparse.Namespace) -> Machine | Cluster | Queue:
    """The machines that a sweep uses, from the options that belong to them."""
    from memnb.sweep import local
    from memnb.sweep.on_ray import Cluster
    from memnb.sweep.on_slurm import Queue

    given = {
        "cpus": values.cpus_per_run,
        "gpus": values.gpus_per_run,
        "retries": values.retries,
    }
    _refuse_options_of_other_places(place, values)
    settings = {key: value for key, value in given.items() if value is not None}
    if values.device == "cpu":
        settings["gpus"] = 0
    if place == "ray":
        return Cluster(address=values.address, **settings)
    if place == "slurm":
        if settings.get("gpus", 1) != int(settings.get("gpus", 1)):
            raise MemnbError(
                f"Slurm gives out whole graphics cards, but got --gpus-per-run "
                f"{values.gpus_per_run:g}; give a whole number."
            )
        settings["gpus"] = int(settings.get("gpus", 1))
        if values.jobs is not None:
            settings["jobs"] = values.jobs
        if values.time_limit is not None:
            settings["minutes"] = math.ceil(values.time_limit / 60)
        return Queue(partition=values.partition, **settings)
    return local.look(values.device, values.jobs)


#: Options of a sweep -> the places that they mean something at.
_PLACES = {
    "jobs": ("local", "slurm"),
    "store": ("ray", "slurm"),
    "address": ("ray",),
    "partition": ("slurm",),
    "time_limit": ("slurm",),
    "gpus_per_run": ("ray", "slurm"),
    "cpus_per_run": ("ray", "slurm"),
    "retries": ("ray", "slurm"),
}


def _refuse_options_of_other_places(place: str, values: argparse.Namespace) -> None:
    """Who names a store and forgets ``--on ray`` would look for the results in the wrong place."""
    for option, places in _PLACES.items():
        if getattr(values, option) not in (None, "") and place not in places:
            flag = "--" + option.replace("_", "-")
            raise MemnbError(
                f"{flag} means something with --on {' or '.join(places)} only, but the sweep is "
                f"--on {place}; leave it out, or choose another place."
            )


def _merge(values: argparse.Namespace) -> int:
    from memnb.sweep import merge

    result = merge.merge([Path(path) for path in values.paths], merge.destination())
    for note in (*result.left_out, *result.notes):
        print(note)
    for run_id in result.added:
        print(f"added {run_id}")
    for run_id in result.completed:
        print(f"completed {run_id}")
    added = counted(len(result.added), "row")
    print(
        f"{added} added to {result.folder}, {len(result.completed)} completed, "
        f"{len(result.known)} were there, "
        f"{len(result.left_out)} left out."
    )
    return 0


def _results(values: argparse.Namespace) -> int:
    if values.action is not None:
        _one_of("action of 'memnb results'", values.action, ("merge",))
        if not values.paths:
            raise MemnbError(
                "'memnb results merge' needs a PATH: a run folder, a folder of them, or a tar "
                "archive."
            )
        return _merge(values)
    form = _one_of("format", values.format, _FORMATS)
    runs = _load_runs(values.out)
    if runs.empty and form == "text":
        print("There are no rows yet; 'memnb reproduce' makes some.")
    else:
        _print(runs[list(_RUN_COLUMNS)] if values.runs else _per_model(runs), form)
    return 0


_RUN_COLUMNS = (
    "run_id", "preset", "task", "model", "changes", "seed", "outcome", "reason", "test_accuracy",
    "validation_accuracy", "step", "best_step", "seconds", "device_name", "precision", "version",
    "commit",
)  # fmt: skip


def _per_model(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and interval of the test accuracy in percent, as text."""
    from memnb.evidence import statistics

    keys = ["preset", "task", "model", "changes"]
    if (custom := runs["preset"] == "custom").any():
        # Runs of other settings of the task or of training are no seeds of one another.
        told = zip(runs["folder"], custom, strict=True)
        runs = runs.assign(settings=[_settings(folder) if own else "" for folder, own in told])
        keys.append("settings")
    rows = statistics.summarise(runs, keys).sort_values(["preset", "task"], kind="stable")
    for column in ("mean", "sd", "low", "high"):
        rows[column] = [f"{100 * share:.2f}" if share == share else "" for share in rows[column]]
    names = {"mean": "accuracy (%)", "low": "low (95 %)", "high": "high (95 %)"}
    return rows.rename(columns=names).reset_index(drop=True)


def _settings(folder: Path) -> str:
    """What tells the settings of a run from others', its seed aside."""
    from memnb.evidence import rows

    return rows.read_run(folder)[1].but(seed=0).run_id.rpartition("-")[2]


#: Whether an action of ``memnb runs`` takes the id of a run.
_RUN_ACTIONS = {
    "list": "never",
    "show": "always",
    "verify": "perhaps",
    "examine": "perhaps",
    "remove": "always",
}


def _runs(values: argparse.Namespace) -> int:
    from memnb import runs

    action = _one_of("action of 'memnb runs'", values.action, _RUN_ACTIONS)
    given = values.name is not None
    if (_RUN_ACTIONS[action], given) in (("never", True), ("always", False)):
        raise MemnbError(
            f"'memnb runs {action}' takes {'no' if given else 'the id of a'} run; see "
            "'memnb runs --help'."
        )
    chosen = [runs.find(values.name, values.out)] if given else runs.folders(values.out)
    if action == "list":
        if not chosen:
            print(f"There are no runs in {paths.runs(values.out)}.")
        for folder in chosen:
            print(_run_line(folder))
        return 0
    if action == "show":
        for word, text in runs.describe(chosen[0]):
            print(f"{word:<12}{text}")
        return 0
    if action == "remove":
        runs.remove(chosen[0], values.yes)
        print(f"{values.name} is removed.")
        return 0
    if action == "examine":
        return _examine_runs(chosen or runs.some(values.out), values.device)
    damaged = 0
    for folder in chosen or runs.some(values.out):  # of nothing all would be sound
        problems = runs.verify(folder)
        damaged += bool(problems)
        print(f"{folder.name:<50}{'damaged' if problems else 'sound'}")
        for problem in problems:
            print(f"  {problem}")
    return 1 if damaged else 0


def _examine_runs(folders: list[Path], device: str) -> int:
    """Each in turn; one that cannot be examined is said and does not keep the others from it."""
    from memnb import runs

    failed = 0
    for folder in folders:
        try:
            added = runs.examine(folder, device)
        except MemnbError as error:
            if len(folders) == 1:
                raise
            print(f"{folder.name:<50}not examined: {error}")
            failed += 1
        else:
            print(f"{folder.name:<50}{'added ' + ', '.join(added) if added else 'lacks no answer'}")
    return 1 if failed else 0


def _run_line(folder: Path) -> str:
    from memnb import runs
    from memnb.evidence import rows

    size = sum(runs.sizes(folder).values()) / 1e6
    try:
        record, run = rows.read_run(folder)
    except MemnbError as error:
        return f"{folder.name:<50}damaged: {error}"
    text = f"{runs.state(folder, record):<12} step {record.step or 0:,} of {run.training.steps:,}"
    if record.test_accuracy is not None:
        text += f", test accuracy {record.test_accuracy:.2%}"
    return f"{folder.name:<50}{text}, {size:.1f} MB" + (
        f": {record.reason}" if record.reason else ""
    )


def _check(values: argparse.Namespace) -> int:
    from memnb.draw import tables
    from memnb.evidence import claims, rows
    from memnb.reproduce.report import ASIDES, effect

    runs = _load_runs(values.out)
    verdicts = claims.check(runs, rows.load_removal(runs), rows.load_probes(runs))
    for claim in dict.fromkeys(verdict.claim for verdict in verdicts):
        same = [verdict for verdict in verdicts if verdict.claim == claim]
        print(f"{claim}: {same[0].statement}")
        for verdict in same:
            numbers = f": {effect(verdict)}" if effect(verdict) else ""
            scale = naming.preset_label(verdict.preset).capitalize()
            print(f"  {scale}: {verdict.verdict.upper()}{numbers}")
            print(f"    {verdict.reading}")
        if claim in ASIDES:
            aside = ASIDES[claim]
            table = aside.table(runs).to_string(index=False)
            print(f"  {aside.heading}, at full scale:")
            for part in (table, textwrap.fill(aside.words(runs), 96)):
                print(textwrap.indent(part, "    "))
    if values.evidence:
        print()
        _print(tables.comparisons(verdicts), "text")
    return 0


def _doctor(values: argparse.Namespace) -> int:
    from memnb import doctor

    findings = doctor.examine(values.out)
    for finding in findings:
        print(finding)
    if values.bundle is not None:
        path = doctor.bundle(findings, values.out, values.bundle)
        print(f"What a bug report needs is in {path}; look into it before you send it.")
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _bench(values: argparse.Namespace) -> int:
    from memnb.evidence import benchmarks
    from memnb.train import bench
    from memnb.train.device import choose_device

    # Apart, so that this process takes no memory of the device.
    chosen = bench.apart(choose_device, values.device)
    usual = {"length": bench.LENGTH_MODELS, "run": bench.RUN_MODELS}
    models = values.model or usual.get(values.suite, config.MODELS)
    tasks = values.task or config.LRA_TASKS
    longest = values.longest or bench.LONGEST[chosen.kind]
    runs = list(bench.plan(values.suite, models, tasks, longest))
    file = benchmarks.file(values.out)
    print(f"{chosen.reason} Measurements: {len(runs)}, to go to {file}.")
    if values.suite == "step":
        best = bench.apart(bench.ceilings, values.device)
        bench.append(file, best)
        print(
            f"Ceilings: copying {best.bandwidth / 1e12:.2f} TB/s, matrix products "
            f"{best.matrix_rate / 1e12:.1f} TFLOP/s."
        )
    print(
        f"{'task':<18}{'model':<14}{'length':>9}{'ms per step':>14}{'GiB':>7}{'first step':>12}",
        flush=True,
    )
    failed = False
    for row in bench.isolated(values.suite, runs, values.device, jobs=values.jobs):
        bench.append(file, row)
        shown = f"{row.task:<18}{row.model:<14}{row.length:>9}"
        if row.milliseconds is None:
            failed |= row.outcome != "out of memory"
            print(f"{shown}  {row.outcome}", flush=True)
            continue
        memory, first = (row.peak_memory or 0) / 2**30, row.first_step or 0.0
        whole = f"  whole run {row.run['whole'] / 60:.1f} min" if row.run else ""
        print(f"{shown}{row.milliseconds:>14.2f}{memory:>7.2f}{first:>10.1f} s{whole}", flush=True)
    return int(failed)


def _verify_block(values: argparse.Namespace) -> int:
    from memnb.train import verify

    failed = 0
    for name in verify.find_blocks(values.block):
        print(f"{name}:")
        for check in verify.verify(name):
            word = ("ok" if check.passed else "FAILED") if check.asked else "-"
            print(f"  {word:<6}  {check.name}: {check.expectation}", flush=True)
            if check.detail:
                print(f"          {check.detail}")
            failed += not check.passed
    return int(failed > 0)


def _models(values: argparse.Namespace) -> int:
    del values
    for name in config.list_models():
        print(f"{name:<18}{_MODEL_NOTES.get(name.split('-')[0], 'a block of your own')}")
    print("Any memory size may stand in a name, such as luna-4.")
    for sentence in config.refused_blocks().values():
        print(f"memnb: {sentence[0].upper()}{sentence[1:]}", file=sys.stderr)
    return 0


_MODEL_NOTES = {
    "transformer": "full attention, no memory",
    "luna": "memory rows read the sequence, and every position reads them",
    "convluna": "the same, with a convolution before the memory and a learned pack temperature",
    "poolluna": "the same, with max pooling in place of the convolution",
    "chunkmem": "a memory that carries information from chunk to chunk, written and read by "
    "attention",
    "convchunkmem": "the same, with a convolution before the memory",
    "rmt": "recurrent memory tokens: the memory rows are tokens of every chunk",
    "convrmt": "the same, with a convolution before what the memory rows read",
    "officialluna": "Luna with the original paper's initialisation and untied projections",
    "perceiver": "memory rows that read the sequence and each other; the head reads them",
    "linformer": "attention over so many learned mixtures of positions",
    "localconv": "a convolution in the place of attention, no memory",
    "memoryless": "ConvLuna with its memory path removed: the filter alone",
}


def _weights(values: argparse.Namespace) -> int:
    action = _one_of("action of 'memnb weights'", values.action, ("list", "export"))
    if action == "list":
        if values.runs:
            raise MemnbError("'memnb weights list' takes no run; see 'memnb weights --help'.")
        from memnb.evidence import views

        for one in views.shipped():
            accuracy = one.facts["test_accuracy"]
            tested = "" if accuracy is None else f", test accuracy {100 * accuracy:.1f} %"
            size = one.path.stat().st_size / 1e6
            print(f"{one.path.stem:<48}{size:>5.1f} MB  {one.title}{tested}")
        return 0
    if not values.runs:
        raise MemnbError("'memnb weights export' needs a run; see 'memnb weights --help'.")
    from memnb import runs
    from memnb.weights import export

    for name in values.runs:
        # A folder, or the id of a run of this machine.
        folder = Path(name) if name and Path(name).is_dir() else runs.find(name, values.out)
        print(export(folder, None if values.to is None else paths.absolute(values.to)))
    return 0


def _tasks(values: argparse.Namespace) -> int:
    del values
    for name in config.list_tasks():
        task = config.task_config(name)
        protocol = "full protocol" if name in config.FULL_TASKS else "small variant"
        shape = f"2 x {task.max_length}" if task.layout == "pair" else str(task.max_length)
        print(f"{name:<18}{task.title}: length {shape}, {task.classes} outputs, {protocol}")
    return 0


def _data(values: argparse.Namespace) -> int:
    from memnb.tasks import catalogue

    action = _one_of("action of 'memnb data'", values.action, _DATA_ACTIONS)
    given = [word for word in (values.task, values.path) if word is not None]
    least, most = _DATA_ACTIONS[action]
    if not least <= len(given) <= most:
        number = counted(most, "word")
        takes = number if least == most else f"{least} or {number}"
        raise MemnbError(
            f"'memnb data {action}' takes {takes}, but got {len(given)}; see 'memnb data --help'."
        )
    if action == "list":
        for state in catalogue.list_data():
            print(_data_line(state))
    elif action == "get":
        print(f"{values.task} is at {catalogue.get(values.task, _transfer_display())}.")
    elif action == "import":
        print(f"{values.task} is at {catalogue.import_data(values.task, Path(values.path))}.")
    else:
        verdicts = catalogue.check(values.task)
        for verdict in verdicts:
            print(f"{verdict.name:<14}{verdict.outcome:<11}{verdict.detail}")
        return 1 if any(v.outcome in ("damaged", "different") for v in verdicts) else 0
    return 0


#: How many words each action of ``memnb data`` takes, at least and at most.
_DATA_ACTIONS = {"list": (0, 0), "get": (1, 1), "import": (2, 2), "check": (0, 1)}


def _data_line(state: Status) -> str:
    """What there is of one data set, or what to do to have it."""
    card = state.card
    if state.ready:
        there = f"here, {state.size / 1e6:,.0f} MB, {state.path}"
    else:
        there = f"not here, {card.disk / 1e6:,.0f} MB: {card.next_step}"
    return f"{card.name:<14}{card.title}: {there}\n{'':<14}licence: {card.licence}"


def _transfer_display() -> Callable[[int, int], None]:
    """Shows a download on one line of a terminal, and nothing elsewhere."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r{done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end=end, file=sys.stderr)

    return show


# --- arguments -------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are raised like all others."""

    def error(self, message: str) -> NoReturn:
        raise MemnbError(f"{message[:1].upper()}{message[1:]}; see '{self.prog} --help'.")


@functools.cache
def _parser() -> argparse.ArgumentParser:
    """The parser of every command; parsing leaves it as it is, so a process builds it once."""
    parser = _Parser(
        prog="memnb",
        description="Reproduce a study of shared memory in Transformers (arXiv 2404.00798).",
        epilog="'memnb COMMAND --help' says more about a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"memnb {__version__}")
    _verbose(parser, 0)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=command.more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.arguments(one)
        _verbose(one, argparse.SUPPRESS)
        one.set_defaults(run=command.run, parser=one)
    return parser


_REPRODUCE_HELP = """\
presets:
  stored  draw the committed rows; trains nothing and does not import PyTorch (1 to 3 minutes)
  quick   the same, and train small models first (11 to 20 minutes on two cores)
  paper   the full protocol on all five tasks; says what it costs before it starts

Whatever was finished before is kept, so a call that was interrupted goes on where it was."""

_TRAIN_HELP = """\
examples:
  memnb train convluna-16 listops-short
  memnb train luna-256 text --seed 1 --device cuda --budget 9m
  memnb train convluna-16 listops --set model.filter=none --set training.steps=5000

A finished run is not trained again; an interrupted one goes on where it was."""

_SWEEP_HELP = """\
examples:
  memnb sweep --dry-run                                what is missing, and what it will take
  memnb sweep --set table --tasks text,listops --budget 9m
  memnb sweep --seeds 3,4 --models luna-16,convluna-16
  memnb sweep --on ray --address auto --store s3://bucket/runs
  memnb sweep --on slurm --partition gpu --jobs 8

Committed rows and those of this machine count as done. What stops a sweep costs nothing but the
last seconds: the same command goes on. 'memnb results merge runs' then takes the new rows into
data/results/.

Where NVIDIA's MPS runs (nvidia-cuda-mps-control -d), three ChunkMem or RMT runs share a card well:
give --jobs three times the number of cards."""

_RESULTS_HELP = """\
  memnb results                 the rows, a line per model
  memnb results merge PATH...   take rows from elsewhere into data/results/, verified: run folders,
                                folders of them, or tar archives; all of them or none

Reads the committed rows and those of this machine. Every finished seed is in the mean, and runs
that failed are counted beside it."""

_CHECK_HELP = """\
Verdicts: supported, partly supported, not supported, not enough runs. The committed rows and
those of this machine are judged, full scale and laptop scale apart."""

_DATA_HELP = """\
  memnb data list               what is here, what is missing, sizes, licences, what to do
  memnb data get TASK           generate it, or download and verify it
  memnb data import TASK PATH   take an archive, an unpacked folder, LRA's files or a prepared .npz
  memnb data check [TASK]       verify what is here

MEMNB_DATA moves the folder that they are kept in."""

_BENCH_HELP = """\
step: every model on every task of Long Range Arena, in its own shape. length: batch 1, Text's
shape, longer and longer. run: what a whole run at full protocol takes, from its timed parts.
Inputs are made up, each measurement runs in a process of its own.
Rows are added to bench.jsonl in the output folder."""

_WEIGHTS_HELP = """\
  memnb weights list             the files in data/weights/, which the pages show
  memnb weights export RUN...    a run folder, or the id of a run of this machine

An export is a .safetensors file in half precision with the run's config in its metadata, and views
of two inputs beside it. The shipped folder may hold 20 MB."""

_VERIFY_BLOCK_HELP = """\
examples:
  memnb verify-block my_memory.py     every block that the file registers
  memnb verify-block mymemory         a block that an installed package offers

How to write a block stands in memnb/models/registry.py. Exit code 1 if an expectation fails."""

_DOCTOR_HELP = """\
Exit code 1 if something stands in the way of 'memnb reproduce'. The file of --bundle holds these
findings, versions, the runs and what went wrong with them, and names no user, machine or folder."""

_RUNS_HELP = """\
  memnb runs list          the runs of this machine, with their outcome and size
  memnb runs show RUN      what is known of one, and its files
  memnb runs verify [RUN]  read every row, sum and weight again; exit code 1 if anything is damaged
  memnb runs examine [RUN] ask finished runs what newer tests ask, and add what they were not asked
                           (lengths, beginning, usage, causal); results merge takes it in
  memnb runs remove RUN    remove one that is not being trained; --yes for one that has finished"""


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="quick", help="stored, quick (default) or paper")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="an artefact; may be repeated"
    )
    _out(parser)
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="processes at a time (default: one per core; for runs of paper: one)",
    )
    _device(parser)


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", help="list or export")
    parser.add_argument("runs", nargs="*", help="a run folder, or the id of a run")
    parser.add_argument("--to", type=_folder, metavar="FOLDER", help="by default data/weights")
    _out(parser)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="such as transformer, luna-16, convluna-1 ('memnb models')")
    parser.add_argument("task", help="such as listops-short, text ('memnb tasks')")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: 0")
    _device(parser)
    parser.add_argument(
        "--accumulate",
        type=_positive,
        default=1,
        metavar="N",
        help="work a batch through in N parts: the same step in less memory",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="CUDA: the same bits every time, where that may cost speed (the CPU always does so)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change a setting of model, task or training; may be repeated",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        metavar="TIME",
        help="save and stop after this time, such as 90s, 9m, 1h30m",
    )
    _out(parser)


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", type=_words, default=[], metavar="SET,...", help="table, ablation, memory-size ..."
    )
    parser.add_argument("--tasks", type=_words, default=[], metavar="TASK,...")
    parser.add_argument("--models", type=_words, default=[], metavar="MODEL,...")
    parser.add_argument(
        "--seeds",
        type=_numbers,
        default=[],
        metavar="N,...",
        help="default: those that are planned; others are added to the plan",
    )
    parser.add_argument(
        "--preset", default="paper", help="paper (default: full protocol) or quick (laptop tasks)"
    )
    parser.add_argument(
        "--budget", type=seconds, metavar="TIME", help="save and stop after this time, as 9m"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="runs at a time (default: two per graphics card, else one per core)",
    )
    parser.add_argument(
        "--skip-missing-data",
        action="store_true",
        help="leave out tasks whose data are not here, and say how to get them",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, train nothing")
    _device(parser)
    _out(parser)
    parser.add_argument("--on", default="local", help="local (default), ray or slurm")
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument(
        "--store",
        metavar="URL",
        help="where its machines meet: a shared folder, s3://... (default: runs/ of --out)",
    )
    cluster.add_argument("--address", help="of the Ray cluster (default: RAY_ADDRESS)")
    cluster.add_argument("--partition", default="", metavar="NAME", help="of Slurm")
    cluster.add_argument(
        "--time-limit", type=seconds, metavar="TIME", help="of a Slurm job (default: 4h)"
    )
    cluster.add_argument(
        "--gpus-per-run",
        type=_share,
        metavar="X",
        help="graphics cards (default: half a card with Ray, one with Slurm)",
    )
    cluster.add_argument("--cpus-per-run", type=_positive, metavar="N", help="default: 1")
    cluster.add_argument(
        "--retries",
        type=_natural,
        metavar="N",
        help="how often a run may lose its machine (default: 3)",
    )


def _results_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", help="merge")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="of what is merged")
    parser.add_argument("--format", default="text", help="text (default), csv or md")
    parser.add_argument("--runs", action="store_true", help="one row per run instead of per model")
    _out(parser)


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evidence", action="store_true", help="show every comparison as well")
    _out(parser)


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list, get, import or check")
    parser.add_argument("task", metavar="TASK", nargs="?", help="a data set, such as text")
    parser.add_argument("path", metavar="PATH", nargs="?", help="of what is imported")


def _runs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list, show, verify, examine or remove")
    parser.add_argument("name", metavar="RUN", nargs="?", help="the id of a run")
    parser.add_argument("--yes", action="store_true", help="remove a run although it has finished")
    _out(parser)
    _device(parser)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default="step", help="step (default), length or run")
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL", help="may be repeated"
    )
    parser.add_argument(
        "--task", action="append", default=[], metavar="TASK", help="may be repeated"
    )
    parser.add_argument(
        "--longest", type=_positive, metavar="N", help="tokens at which the length suite ends"
    )
    parser.add_argument(
        "--jobs",
        type=_positive,
        default=1,
        metavar="N",
        help="compile N at a time, then time one after another (not in the length suite)",
    )
    _device(parser)
    _out(parser)


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        nargs="?",
        const="",
        metavar="FILE",
        help="write what a bug report needs into a zip file (default: in the output folder)",
    )
    _out(parser)


def _verify_block_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "block",
        metavar="NAME_OR_FILE",
        help="a block's name, with a memory size if it needs one (mymemory-3), or a Python file",
    )


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


@dataclass(frozen=True)
class Command:
    """A command: what runs it, what adds its arguments, its line in the help, and more help."""

    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None]
    summary: str
    more: str = ""


COMMANDS = {
    "reproduce": Command(
        _reproduce,
        _reproduce_arguments,
        "train what is missing, execute the notebooks, write report/index.html",
        _REPRODUCE_HELP,
    ),
    "train": Command(_train, _train_arguments, "train one model on one task", _TRAIN_HELP),
    "sweep": Command(
        _sweep,
        _sweep_arguments,
        "train the planned runs that are missing, here or on a cluster",
        _SWEEP_HELP,
    ),
    "bench": Command(_bench, _bench_arguments, "time and memory of a training step", _BENCH_HELP),
    "results": Command(
        _results,
        _results_arguments,
        "mean, spread and number of seeds of all rows",
        _RESULTS_HELP,
    ),
    "check": Command(_check, _check_arguments, "judge the paper's claims on the rows", _CHECK_HELP),
    "runs": Command(
        _runs,
        _runs_arguments,
        "list the runs of this machine; show, verify, examine and remove one",
        _RUNS_HELP,
    ),
    "data": Command(
        _data,
        _data_arguments,
        "say which data sets are here; get, import and check them",
        _DATA_HELP,
    ),
    "doctor": Command(
        _doctor,
        _doctor_arguments,
        "say what this machine can do, and what is missing",
        _DOCTOR_HELP,
    ),
    "weights": Command(
        _weights,
        _weights_arguments,
        "export the weights of trained models, list those that are shipped",
        _WEIGHTS_HELP,
    ),
    "verify-block": Command(
        _verify_block,
        _verify_block_arguments,
        "check that a block of your own keeps what the others promise",
        _VERIFY_BLOCK_HELP,
    ),
    "models": Command(_models, _no_arguments, "list the models"),
    "tasks": Command(_tasks, _no_arguments, "list the tasks"),
}


def _out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=_folder,
        metavar="DIR",
        help="folder that holds runs/ and report/ (default: the checkout, else memnb-output)",
    )


def _verbose(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="say what happens; -vv says more",
    )


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        type=functools.partial(_one_of, "device", choices=("auto", "cpu", "cuda")),
        default="auto",
        help="auto (default: CUDA if there is any), cpu or cuda",
    )


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, but got nothing")
    if "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name cannot hold a null character")
    return text


def _positive(text: str) -> int:
    return _whole(text, least=1)


def _natural(text: str) -> int:
    return _whole(text, least=0)


def _whole(text: str, least: int) -> int:
    # int() refuses thousands of digits; eleven are enough to see that a number is too large.
    number = int(text.lstrip("0")[:11] or "0") if re.fullmatch(r"[0-9]+", text) else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, but got {text!r}")
    if number >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a number below {2**31}, but got {text!r}")
    return number


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"expected names with commas between, but got {text!r}")
    return words


def _numbers(text: str) -> list[int]:
    return [_natural(word) for word in _words(text)]


def _share(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text):
        raise argparse.ArgumentTypeError(f"expected a number such as 0.5 or 1, but got {text!r}")
    return float(text)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]


def _one_of(kind: str, name: str, choices: Iterable[str]) -> str:
    if name not in choices:
        raise unknown(kind, name, choices)
    return name


def _changes(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``model.memory=4`` and the like, by section.

    Raises:
        MemnbError: not of that form, or no such section. Keys and values are checked by config.
    """
    changes: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for setting in settings:
        match = re.fullmatch(r"([^.=]+)\.([^.=]+)=(.+)", setting, flags=re.DOTALL)
        if match is None:
            raise MemnbError(
                f"--set needs SECTION.KEY=VALUE, such as model.memory=4, but got '{setting}'."
            )
        section, key, value = match.groups()
        if section not in changes:
            raise unknown("section", section, _SECTIONS)
        if (section, key) == ("task", "name"):
            raise MemnbError(
                "--set cannot change a task's name, since it says which task the run is listed "
                "under; name the task itself, as in 'memnb train luna-16 recall-8'."
            )
        changes[section][key] = _value(value)
    return changes


def _value(text: str) -> Any:
    """A number, true or false, null; anything else is a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def seconds(text: str) -> float:
    """A length of time such as ``45``, ``90s``, ``9m``, ``1h30m`` or ``2.5h``, in seconds.

    Raises:
        MemnbError: not of that form, or no time at all.
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    match = re.fullmatch(r"(?:(?:\d{1,6}(?:\.\d{1,3})?[hms])+|\d{1,9})", text)
    if match is None:
        raise MemnbError(f"A time is written 90s, 9m or 1h30m, but got '{text}'.")
    parts = re.findall(r"([\d.]+)([hms]?)", text)
    total = sum(float(number) * units[unit or "s"] for number, unit in parts)
    if total <= 0:
        raise MemnbError(f"The time must be longer than nothing, but got '{text}'.")
    return total


# --- rows ------------------------------------------------------------------------------------


def _load_runs(out: str | None) -> pd.DataFrame:
    """This machine's rows and the committed ones; what could not be read goes to stderr."""
    from memnb.evidence import rows

    here = paths.runs(out)
    if out is not None and not here.is_dir():
        raise RunError(f"There are no runs in {here}; is --out the folder that holds runs/?")
    runs = rows.load_runs(here, paths.stored_results())
    for problem in runs.attrs["problems"]:
        print(f"memnb: {problem}", file=sys.stderr)
    return runs


def _print(frame: pd.DataFrame, form: str) -> None:
    if form == "text":  # all that a machine which only trains needs
        print(frame.to_string(index=False, na_rep="-"))
        return
    from memnb.reproduce.page import as_csv, as_markdown

    print(as_csv(frame) if form == "csv" else as_markdown(frame), end="")
