"""Commands that train: ``reproduce``, ``train``, ``sweep``, ``bench``, ``verify-block``."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from memnb import config, paths
from memnb.cli.common import (
    Command,
    add_device,
    add_out,
    names,
    natural,
    numbers,
    one_of,
    positive,
    print_frame,
    seconds,
    share,
)
from memnb.errors import OUT_OF_MEMORY, MemnbError, unknown
from memnb.words import counted, duration

if TYPE_CHECKING:
    from memnb.sweep.local import Machine
    from memnb.sweep.on_ray import Cluster
    from memnb.sweep.on_slurm import Queue


# --- reproduce ---------------------------------------------------------------------------------

_REPRODUCE_HELP = """\
presets:
  stored  draw the committed rows; trains nothing and does not import PyTorch (1 to 3 minutes)
  quick   the same, and train small models first (9 to 21 minutes on two cores)
  paper   the full protocol on all five tasks; says what it costs before it starts

Whatever was finished before is kept, so a call that was interrupted goes on where it was."""


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="quick", help="stored, quick (default) or paper")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="an artefact; may be repeated"
    )
    add_out(parser)
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="processes at a time (default: one per core; for runs of paper: one)",
    )
    add_device(parser)


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


REPRODUCE = Command(
    _reproduce,
    _reproduce_arguments,
    "train what is missing, execute the notebooks, write report/index.html",
    _REPRODUCE_HELP,
)


# --- train -------------------------------------------------------------------------------------

_TRAIN_HELP = """\
examples:
  memnb train convluna-16 listops-short
  memnb train luna-256 text --seed 1 --device cuda --budget 9m
  memnb train convluna-16 listops --set model.filter=none --set training.steps=5000

A finished run is not trained again; an interrupted one goes on where it was."""


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="such as transformer, luna-16, convluna-1 ('memnb models')")
    parser.add_argument("task", help="such as listops-short, text ('memnb tasks')")
    parser.add_argument("--seed", type=natural, default=0, metavar="N", help="default: 0")
    add_device(parser)
    parser.add_argument(
        "--accumulate",
        type=positive,
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
        help="change a setting of model, task or training (null: none); may be repeated",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        metavar="TIME",
        help="save and stop after this time, such as 90s, 9m, 1h30m",
    )
    add_out(parser)


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


_SECTIONS = ("model", "task", "training")


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


TRAIN = Command(_train, _train_arguments, "train one model on one task", _TRAIN_HELP)


# --- sweep -------------------------------------------------------------------------------------

_SWEEP_HELP = """\
examples:
  memnb sweep --dry-run                                what is missing, and what it will take
  memnb sweep --set table --tasks text,listops --budget 9m
  memnb sweep --seeds 3,4 --models luna-16,convluna-16
  memnb sweep --tasks text --models luna-3             no set plans these: each model on each task
  memnb sweep --on ray --address auto --store s3://bucket/runs
  memnb sweep --on slurm --partition gpu --jobs 8

Committed rows and those of this machine count as done. What stops a sweep costs nothing but the
last seconds: the same command goes on. 'memnb results merge runs' then takes the new rows into
data/results/.

Where NVIDIA's MPS runs (nvidia-cuda-mps-control -d), a card gets three runs at a time, and gets
1.3 times as much done as with two without it."""


def _sweep_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", type=names, default=[], metavar="SET,...", help="table, ablation, memory-size ..."
    )
    parser.add_argument("--tasks", type=names, default=[], metavar="TASK,...")
    parser.add_argument("--models", type=names, default=[], metavar="MODEL,...")
    parser.add_argument(
        "--seeds",
        type=numbers,
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
        type=positive,
        metavar="N",
        help="runs at a time (default: two per graphics card, three under MPS, else one per core)",
    )
    parser.add_argument(
        "--skip-missing-data",
        action="store_true",
        help="leave out tasks whose data are not here, and say how to get them",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, train nothing")
    add_device(parser)
    add_out(parser)
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
        type=share,
        metavar="X",
        help="graphics cards (default: half a card with Ray, one with Slurm)",
    )
    cluster.add_argument("--cpus-per-run", type=positive, metavar="N", help="default: 1")
    cluster.add_argument(
        "--retries",
        type=natural,
        metavar="N",
        help="how often a run may lose its machine (default: 3)",
    )


def _sweep(values: argparse.Namespace) -> int:
    began = time.monotonic()
    place = one_of("place to sweep on", values.on, ("local", "ray", "slurm"))

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
        print_frame(plan.table(), "text")
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
        print_frame(begun, "text")
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
    _refuse_impossible_cards(place, values)
    if values.device == "cpu":
        settings["gpus"] = 0
    if place == "ray":
        if values.device == "cuda":  # else Ray's cluster decides, which may have none
            settings.setdefault("gpus", 1 / local.RUNS_PER_CARD)
        return Cluster(address=values.address, **settings)
    if place == "slurm":
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
    "skip_missing_data": ("local",),
    "gpus_per_run": ("ray", "slurm"),
    "cpus_per_run": ("ray", "slurm"),
    "retries": ("ray", "slurm"),
}


def _refuse_options_of_other_places(place: str, values: argparse.Namespace) -> None:
    """Who names a store and forgets ``--on ray`` would look for the results in the wrong place."""
    for option, places in _PLACES.items():
        value = getattr(values, option)
        # Not by comparing: 0 is given, although it equals False.
        if value is not None and value is not False and value != "" and place not in places:
            flag = "--" + option.replace("_", "-")
            raise MemnbError(
                f"{flag} means something with --on {' or '.join(places)} only, but the sweep is "
                f"--on {place}; leave it out, or choose another place."
            )


def _refuse_impossible_cards(place: str, values: argparse.Namespace) -> None:
    cards: float | None = values.gpus_per_run
    if cards is None:
        return
    if (values.device == "cpu" and cards > 0) or (values.device == "cuda" and cards == 0):
        raise MemnbError(
            f"--device {values.device} and --gpus-per-run {cards:g} contradict each other; leave "
            "one of them out."
        )
    if place == "slurm" and cards != int(cards):
        raise MemnbError(
            f"Slurm gives out whole graphics cards, but got --gpus-per-run {cards:g}; give a whole "
            "number."
        )
    if cards > 1 and cards != int(cards):
        raise MemnbError(
            f"Ray gives out parts of one graphics card or whole ones, but got --gpus-per-run "
            f"{cards:g}; give a whole number, or one below 1."
        )


SWEEP = Command(
    _sweep,
    _sweep_arguments,
    "train the planned runs that are missing, here or on a cluster",
    _SWEEP_HELP,
)


# --- bench -------------------------------------------------------------------------------------

_BENCH_HELP = """\
step: every model on every task of Long Range Arena, in its own shape. length: batch 1, Text's
shape, longer and longer. run: what a whole run at full protocol takes, from its timed parts.
Inputs are made up, each measurement runs in a process of its own.
Rows are added to bench.jsonl in the output folder."""


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default="step", help="step (default), length or run")
    parser.add_argument(
        "--model", action="append", default=[], metavar="MODEL", help="may be repeated"
    )
    parser.add_argument(
        "--task", action="append", default=[], metavar="TASK", help="may be repeated"
    )
    parser.add_argument(
        "--longest", type=positive, metavar="N", help="tokens at which the length suite ends"
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="compile N at a time, then time one after another (not in the length suite)",
    )
    add_device(parser)
    add_out(parser)


def _refuse_options_of_other_suites(values: argparse.Namespace) -> None:
    """The length suite measures one shape, Text's, at one length after the other."""
    length = values.suite == "length"
    wrong = {"--task": length and values.task, "--jobs": length and values.jobs > 1,
             "--longest": not length and values.longest}  # fmt: skip
    where = "in all suites but 'length'" if length else "in the suite 'length' only"
    for option, given in wrong.items():
        if given:
            raise MemnbError(
                f"{option} means something {where}, but the suite is '{values.suite}'; leave it "
                "out, or choose another suite."
            )


def _bench(values: argparse.Namespace) -> int:
    from memnb.evidence import benchmarks
    from memnb.train import bench
    from memnb.train.device import choose_device

    one_of("suite", values.suite, bench.SUITES)
    _refuse_options_of_other_suites(values)
    if values.longest is not None and values.longest < bench.LENGTHS[0]:
        raise MemnbError(
            f"The suite 'length' begins at {bench.LENGTHS[0]:,} tokens, but got --longest "
            f"{values.longest}; raise it."
        )
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
            failed |= row.outcome != OUT_OF_MEMORY
            print(f"{shown}  {row.outcome}", flush=True)
            continue
        memory, first = (row.peak_memory or 0) / 2**30, row.first_step or 0.0
        whole = f"  whole run {row.run['whole'] / 60:.1f} min" if row.run else ""
        print(f"{shown}{row.milliseconds:>14.2f}{memory:>7.2f}{first:>10.1f} s{whole}", flush=True)
    return int(failed)


BENCH = Command(_bench, _bench_arguments, "time and memory of a training step", _BENCH_HELP)


# --- verify-block ------------------------------------------------------------------------------

_VERIFY_BLOCK_HELP = """\
examples:
  memnb verify-block my_memory.py     every block that the file registers
  memnb verify-block mymemory         a block that an installed package offers

How to write a block stands in memnb/models/registry.py. Exit code 1 if an expectation fails."""


def _verify_block_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "block",
        metavar="NAME_OR_FILE",
        help="a block's name, with a memory size if it needs one (mymemory-3), or a Python file",
    )


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


VERIFY_BLOCK = Command(
    _verify_block,
    _verify_block_arguments,
    "check that a block of your own keeps what the others promise",
    _VERIFY_BLOCK_HELP,
)
