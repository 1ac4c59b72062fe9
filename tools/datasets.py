"""Write data/reference/datasets.csv and splits.csv from the data sets that are on this machine.

python tools/datasets.py            # rewrite; what is not here keeps its lines
python tools/datasets.py --check    # exit 1 if a file does not fit the data

Only numbers of examples and of lengths, and digests, are written, nothing of the data themselves.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from memnb import tasks
from memnb.config import TASKS
from memnb.evidence import known_data
from memnb.tasks import catalogue, counts
from memnb.tasks.base import Generated


def updated() -> dict[str, counts.Counts]:
    """The committed aggregates, counted anew for every data set that is here."""
    known = counts.load() if counts.file().exists() else {}
    for status in catalogue.list_data():
        name = status.card.name
        if status.ready and status.card.kind != "generated":
            known[name] = counts.of_data(name)
    return {name: known[name] for name in catalogue.CARDS if name in known}


def digests() -> str:
    """A digest for every task whose data are here and the known ones, or are made in seconds."""
    known = known_data.load() if known_data.file().exists() else {}
    good = {verdict.name for verdict in catalogue.check() if verdict.outcome == "good"}
    for name, task in TASKS.items():
        made_in_seconds = isinstance(task, Generated) and name not in catalogue.CARDS
        if made_in_seconds or name.removesuffix("-short") in good:
            known[name] = tasks.load(task).digest()
    lines = [known_data.COLUMNS, *([name, known[name]] for name in TASKS if name in known)]
    return "".join(",".join(line) + "\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    files: dict[Path, str] = {counts.file(): counts.as_csv(updated()), known_data.file(): digests()}
    for path, wanted in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == wanted:
            continue
        if check:
            print(f"{path} does not fit the data here; run tools/datasets.py.", file=sys.stderr)
            return 1
        path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
