"""What memnb says beside its results: warnings always, and more when it is asked to (``-v``).

Modules log through the standard library, under ``memnb``; a program that imports memnb decides
itself what becomes of it. Only the command and its worker processes call :func:`start`.
"""

from __future__ import annotations

import logging
import os
import sys

#: How the wish for more reaches worker processes: 1 for what happens, 2 for every detail.
VARIABLE = "MEMNB_VERBOSE"
_LEVELS = {"1": logging.INFO, "2": logging.DEBUG}


class _Stderr(logging.Handler):
    """Writes to what is the standard error when something is said, not when it was set up."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def start(verbosity: int | None = None) -> None:
    """Send memnb's log to the standard error.

    Args:
        verbosity: 0 for warnings, 1 for what happens as well, 2 for every detail; by default what
            the environment asks for. Processes started later take it over.
    """
    if verbosity:
        os.environ[VARIABLE] = str(min(verbosity, 2))
    level = _LEVELS.get(os.environ.get(VARIABLE, ""), logging.WARNING)
    plain = "memnb: %(message)s"
    handler = _Stderr()
    handler.setFormatter(
        logging.Formatter(
            plain if level >= logging.WARNING else "%(asctime)s %(name)s: %(message)s"
        )
    )
    logger = logging.getLogger("memnb")
    logger.handlers = [each for each in logger.handlers if not isinstance(each, _Stderr)]
    logger.addHandler(handler)
    logger.setLevel(level)
