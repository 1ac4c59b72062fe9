"""Where things are. Nothing here depends on the working directory of a checkout.

Three kinds of place:

* *assets*, read only: notebooks, committed rows, shipped weights, reference numbers. In a checkout
  they stand at its root; in an installed wheel they travel inside the package (``memnb/_assets``).
* *output*: runs, report. The checkout's root, or ``memnb-output`` in the working directory where
  there is no checkout; moved by ``MEMNB_OUT`` or ``--out``.
* *data cache*: generated and downloaded data sets; moved by ``MEMNB_DATA``.
"""

from __future__ import annotations

import os
from pathlib import Path

from memnb.errors import MemnbError

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The root of the checkout that this package is imported from, or None for a wheel."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir() else None


def assets() -> Path:
    """The folder that holds ``notebooks/`` and ``data/``."""
    return checkout() or _PACKAGE / "_assets"


def notebooks() -> Path:
    """The notebooks as committed."""
    return assets() / "notebooks"


def stored_results() -> Path:
    """Committed results, one folder per run."""
    return assets() / "data" / "results"


def reference() -> Path:
    """Published numbers, each with its source."""
    return assets() / "data" / "reference"


def weights() -> Path:
    """Weights of a few trained models, in half precision."""
    return assets() / "data" / "weights"


def absolute(path: str | os.PathLike[str]) -> Path:
    """``path`` from the root, with ``~`` as the home folder; it need not exist.

    Raises:
        MemnbError: there is no such home folder, the working directory was removed, or no file
            system can take the path.
    """
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise MemnbError(
            f"{os.fspath(path)!a} is no path: it holds a character that no file name can, a "
            "zero byte, half of a character or one that this locale lacks; write another."
        )
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise MemnbError(
            f"There is no home folder to put in the place of '~' in '{path}'; write it out."
        ) from None
    except FileNotFoundError:
        raise MemnbError(_NO_PLACE) from None


_NO_PLACE = "The working directory was removed; change to one that is there (cd) and try again."


def output(out: str | os.PathLike[str] | None = None) -> Path:
    """The folder that ``runs/`` and ``report/`` are written to, absolute."""
    chosen = out or os.environ.get("MEMNB_OUT")
    if chosen:
        return absolute(chosen)
    return checkout() or absolute("memnb-output")


def runs(out: str | os.PathLike[str] | None = None) -> Path:
    """Run folders of this machine."""
    return output(out) / "runs"


def report(out: str | os.PathLike[str] | None = None) -> Path:
    """The report: executed notebooks, figures, tables and ``index.html``."""
    return output(out) / "report"


#: Set where a page is executed for the report.
FOR_THE_REPORT = "MEMNB_FOR_THE_REPORT"


def pages(out: str | os.PathLike[str] | None = None) -> Path:
    """Where a page leaves figures and tables: executed for the report, there; by hand, in a folder
    of its own, so that trying other parameters changes nothing of a finished report."""
    return report(out) if os.environ.get(FOR_THE_REPORT) else output(out) / "pages"


def data_cache() -> Path:
    """Generated and downloaded data sets.

    Raises:
        MemnbError: the name given for it can be no folder, or there is no home folder for it.
    """
    chosen = os.environ.get("MEMNB_DATA")
    if chosen:
        return absolute(chosen)
    root = checkout()
    if root is not None:
        return root / "data" / "cache"
    try:
        return absolute(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "memnb"
    except MemnbError as error:
        raise MemnbError(f"{error} Or let MEMNB_DATA name a folder for data sets.") from None
