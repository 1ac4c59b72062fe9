"""The command line: ``memnb COMMAND``. PyTorch is imported by the commands that train."""

from __future__ import annotations

import argparse
import errno
import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from memnb import __version__, logs
from memnb.cli import inventory, results, training
from memnb.cli.common import complain
from memnb.errors import MemnbError, unknown

#: In the order of the help.
COMMANDS = {
    "reproduce": training.REPRODUCE,
    "train": training.TRAIN,
    "sweep": training.SWEEP,
    "bench": training.BENCH,
    "results": results.RESULTS,
    "check": results.CHECK,
    "runs": inventory.RUNS,
    "data": inventory.DATA,
    "doctor": inventory.DOCTOR,
    "weights": inventory.WEIGHTS,
    "verify-block": training.VERIFY_BLOCK,
    "models": inventory.MODELS,
    "tasks": inventory.TASKS,
}


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
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        complain("interrupted; what was finished is kept.")
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
        complain(f"{_EXPLAINED[error.errno]}{where}.")
        return 1


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


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are raised like all others."""

    def error(self, message: str) -> NoReturn:
        raise MemnbError(f"{message[:1].upper()}{message[1:]}; see '{self.prog} --help'.")


class _CommandParser(_Parser):
    """The parser of one command: an option may stand between its words, as in
    ``memnb runs show --out DIR RUN``, where argparse by itself would take RUN for one too many."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixing:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


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
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    for name, command in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=command.more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if command.arguments is not None:
            command.arguments(one)
        _verbose(one, argparse.SUPPRESS)
        one.set_defaults(run=command.run, parser=one)
    return parser


def _verbose(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=default,
        help="say what happens; -vv says more",
    )


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]
