"""Commands that say what there is: models, tasks, runs, data sets, weights, and the machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from memnb import config, paths
from memnb.cli.common import (
    Command,
    add_device,
    add_out,
    complain,
    folder_name,
    one_of,
    positive,
)
from memnb.errors import DataError, MemnbError
from memnb.words import counted

if TYPE_CHECKING:
    from memnb.tasks.catalogue import Status


# --- models and tasks --------------------------------------------------------------------------

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


def _models(values: argparse.Namespace) -> int:
    del values
    for name in config.list_models():
        print(f"{name:<18}{_MODEL_NOTES.get(name.split('-')[0], 'a block of your own')}")
    print("Any memory size may stand in a name, such as luna-4.")
    for sentence in config.refused_blocks().values():
        complain(f"{sentence[0].upper()}{sentence[1:]}")
    return 0


def _tasks(values: argparse.Namespace) -> int:
    del values
    for name in config.list_tasks():
        try:
            task = config.task_config(name)
        except DataError as error:  # of one's own: the others are none the worse
            complain(str(error))
            continue
        protocol = "full protocol" if name in config.FULL_TASKS else "small variant"
        protocol = "data of your own" if isinstance(task, config.Own) else protocol
        shape = f"2 x {task.max_length}" if task.layout == "pair" else str(task.max_length)
        print(f"{name:<18}{task.title}: length {shape}, {task.classes} outputs, {protocol}")
    return 0


MODELS = Command(_models, None, "list the models")

TASKS = Command(_tasks, None, "list the tasks")


# --- runs --------------------------------------------------------------------------------------

_RUNS_HELP = """\
  memnb runs list          the runs of this machine, with their outcome and size
  memnb runs show RUN      what is known of one, and its files
  memnb runs verify [RUN]  read every row, sum and weight again; exit code 1 if anything is damaged
  memnb runs examine [RUN] ask finished runs what newer tests ask, and add what they were not asked
                           (lengths, beginning, usage, causal); results merge takes it in
  memnb runs remove RUN    remove one that is not being trained; --yes for one that has finished"""

#: Whether an action of ``memnb runs`` takes the id of a run.
_RUN_ACTIONS = {
    "list": "never",
    "show": "always",
    "verify": "perhaps",
    "examine": "perhaps",
    "remove": "always",
}


def _runs_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list, show, verify, examine or remove")
    parser.add_argument("name", metavar="RUN", nargs="?", help="the id of a run")
    parser.add_argument("--yes", action="store_true", help="remove a run although it has finished")
    add_out(parser)
    add_device(parser)


def _runs(values: argparse.Namespace) -> int:
    from memnb import runs

    action = one_of("action of 'memnb runs'", values.action, _RUN_ACTIONS)
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
        found = runs.verify(folder)
        damaged += bool(found.damage)
        state = "sound as far as checked" if found.unchecked else "sound"
        print(f"{folder.name:<50}{'damaged' if found.damage else state}")
        for sentence in (*found.damage, *found.unchecked):
            print(f"  {sentence}")
    return 1 if damaged else 0


def _examine_runs(folders: list[Path], device: str) -> int:
    """Each in turn; one that cannot be examined is said and does not keep the others from it. Of
    several only the finished ones were meant."""
    from memnb import runs
    from memnb.evidence import rows

    failed = 0
    for folder in folders:
        try:
            if len(folders) > 1 and (record := rows.read_run(folder)[0]).outcome != "finished":
                print(f"{folder.name:<50}{runs.state(folder, record)}: nothing to ask")
                continue
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
    step = runs.reached(folder, record)
    text = f"{runs.state(folder, record):<12} step {step:,} of {run.training.steps:,}"
    if record.test_accuracy is not None:
        text += f", test accuracy {record.test_accuracy:.2%}"
    return f"{folder.name:<50}{text}, {size:.1f} MB" + (
        f": {record.reason}" if record.reason else ""
    )


RUNS = Command(
    _runs,
    _runs_arguments,
    "list the runs of this machine; show, verify, examine and remove one",
    _RUNS_HELP,
)


# --- data --------------------------------------------------------------------------------------

_DATA_HELP = """\
  memnb data list               what is here, what is missing, sizes, licences, what to do
  memnb data get TASK           generate it, or download and verify it
  memnb data import TASK PATH   take an archive, an unpacked folder, LRA's files or a prepared .npz
  memnb data import own-NAME FILE
                                take data of your own for a task own-NAME: a table (.csv, .tsv) with
                                the columns text and label, or arrays (.npz; see docs/own.md)
  memnb data check [TASK]       verify what is here

MEMNB_DATA moves the folder that they are kept in."""

#: How many words each action of ``memnb data`` takes, at least and at most.
_DATA_ACTIONS = {"list": (0, 0), "get": (1, 1), "import": (2, 2), "check": (0, 1)}


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list, get, import or check")
    parser.add_argument("task", metavar="TASK", nargs="?", help="a data set, such as text")
    parser.add_argument("path", metavar="PATH", nargs="?", help="of what is imported")
    own = parser.add_argument_group("of data of your own")
    own.add_argument("--max-length", metavar="N", type=positive, help="cut longer sequences")
    own.add_argument("--replace", action="store_true", help="take the place of other own-NAME")


def _data(values: argparse.Namespace) -> int:
    from memnb.tasks import catalogue, own

    action = one_of("action of 'memnb data'", values.action, _DATA_ACTIONS)
    given = [word for word in (values.task, values.path) if word is not None]
    least, most = _DATA_ACTIONS[action]
    if not least <= len(given) <= most:
        number = counted(most, "word")
        takes = number if least == most else f"{least} or {number}"
        raise MemnbError(
            f"'memnb data {action}' takes {takes}, but got {len(given)}; see 'memnb data --help'."
        )
    of_own = action == "import" and values.task.startswith(config.OWN)
    options = {"--replace": values.replace, "--max-length": values.max_length}
    for option, given_too in options.items():
        if given_too and not of_own:
            raise MemnbError(
                f"{option} is for importing data of your own ('memnb data import own-NAME FILE'); "
                "leave it out."
            )
    if action == "list":
        for state in catalogue.list_data():
            print(_data_line(state))
        for name in own.names():
            path = own.file(name)
            print(f"{name:<14}your own: here, {path.stat().st_size / 1e6:,.1f} MB, {path}")
    elif of_own:
        path = Path(values.path)
        print(
            own.import_file(values.task, path, max_length=values.max_length, replace=values.replace)
        )
    elif action == "get":
        print(f"{values.task} is at {catalogue.get(values.task, _transfer_display())}.")
    elif action == "import":
        print(f"{values.task} is at {catalogue.import_data(values.task, Path(values.path))}.")
        # A run is recognised by its task's name, whatever data that name stands for here.
        for verdict in catalogue.check(values.task):
            if verdict.outcome == "different":
                complain(f"{verdict.name} is {verdict.detail}, or no page shows runs on it.")
    else:
        verdicts = catalogue.check(values.task)
        for verdict in verdicts:
            print(f"{verdict.name:<14}{verdict.outcome:<11}{verdict.detail}")
        return 1 if any(v.outcome in ("damaged", "different") for v in verdicts) else 0
    return 0


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


DATA = Command(
    _data,
    _data_arguments,
    "say which data sets are here; get, import and check them",
    _DATA_HELP,
)


# --- weights -----------------------------------------------------------------------------------

_WEIGHTS_HELP = """\
  memnb weights list             the files in data/weights/, which the pages show
  memnb weights export RUN...    a run folder, or the id of a run of this machine

An export is a .safetensors file in half precision with the run's config in its metadata, and views
of two inputs beside it. The shipped folder may hold 20 MB."""


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list or export")
    parser.add_argument("runs", metavar="RUN", nargs="*", help="a run folder, or the id of a run")
    parser.add_argument("--to", type=folder_name, metavar="FOLDER", help="by default data/weights")
    add_out(parser)


def _weights(values: argparse.Namespace) -> int:
    action = one_of("action of 'memnb weights'", values.action, ("list", "export"))
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


WEIGHTS = Command(
    _weights,
    _weights_arguments,
    "export the weights of trained models, list those that are shipped",
    _WEIGHTS_HELP,
)


# --- doctor ------------------------------------------------------------------------------------

_DOCTOR_HELP = """\
Exit code 1 if something stands in the way of 'memnb reproduce'. The file of --bundle holds these
findings, versions, the runs and what went wrong with them, and names no user, machine or folder."""


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        nargs="?",
        const="",
        metavar="FILE",
        help="write what a bug report needs into a zip file (default: in the output folder)",
    )
    add_out(parser)


def _doctor(values: argparse.Namespace) -> int:
    from memnb import doctor

    findings = doctor.examine(values.out)
    for finding in findings:
        print(finding)
    if values.bundle is not None:
        path = doctor.bundle(findings, values.out, values.bundle)
        print(f"What a bug report needs is in {path}; look into it before you send it.")
    return 1 if any(finding.state == "problem" for finding in findings) else 0


DOCTOR = Command(
    _doctor,
    _doctor_arguments,
    "say what this machine can do, and what is missing",
    _DOCTOR_HELP,
)
