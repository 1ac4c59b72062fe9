"""Errors that a user can act on: one sentence, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MemnbError(Exception):
    """A mistake or condition the user can mend.

    The message is one sentence: what was expected, what came, what to do.
    The command line prints it alone and exits with :attr:`exit_code`.
    """

    exit_code = 2

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback, so that a notebook says one sentence too."""
        return [f"memnb: {self}"]


class RunError(MemnbError):
    """A run could not start or go on (locked, unreadable, no space); nothing was lost."""

    exit_code = 1


class RunInUse(RunError):
    """Another process is training the run."""


class DataError(MemnbError):
    """A data file is missing, damaged or not what its format promises."""

    exit_code = 1


#: How the reason of a run begins that ended for want of memory, and the outcome of such a
#: measurement. It says something of the machine and nothing of the model.
OUT_OF_MEMORY = "out of memory"


def first_line(error: object) -> str:
    """The first line of what an error says; of what type it is, where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def missing_package(what_needs: str, package: str | None) -> MemnbError:
    """The error for a package of the extra ``notebooks`` that is not installed."""
    return MemnbError(
        f"{what_needs} the package '{package}'; install it with `pip install 'memnb[notebooks]'`."
    )


#: What to try where the guard is there: of processes that load PyTorch first.
_TRY_PYTORCH = (
    "'python -c \"import torch; torch.cuda.is_available()\"' may tell what is wrong with PyTorch"
)


def died_at_start(process: str, otherwise: str = _TRY_PYTORCH) -> RunError:
    """The error for a process that died at its start, as all do that a script without a guard
    starts; ``otherwise`` says where to look if the script has one."""
    return RunError(
        f"{process} died: a script must call this below 'if __name__ == \"__main__\":', since "
        f"every process that it starts runs it again; if it does, {otherwise}."
    )


def unknown(
    kind: str, name: object, choices: Iterable[str], otherwise: str = "", cutoff: float = 0.5
) -> MemnbError:
    """The error for a name that is not among ``choices``, with the name that was probably meant.

    Args:
        kind: what there is none of by that name.
        name, choices: the name given, and those that there are.
        otherwise: what to do where no choice is like the name; by default all are listed.
        cutoff: how like it is to be, from 0 to 1 (:func:`difflib.get_close_matches`).
    """
    options = list(choices)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=cutoff)
    hint = otherwise or "the choices are " + ", ".join(options)
    return MemnbError(
        f"There is no {kind} named '{name}'; "
        + (f"did you mean '{close[0]}'?" if close else f"{hint}.")
    )


def check_budget(budget: object) -> None:
    """Refuse what is neither seconds nor None: a clock is never past a deadline that is no number.

    Raises:
        MemnbError: says what the budget was.
    """
    seconds = isinstance(budget, int | float) and not isinstance(budget, bool)
    if budget is not None and not (seconds and budget == budget):
        raise MemnbError(
            f"The budget is a number of seconds, or None for no end, but got {budget!r}; give "
            "one, as 540."
        )
