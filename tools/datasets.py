"""Write data/reference/datasets.csv from the data sets that are on this machine.

python tools/datasets.py            # rewrite; what is not here keeps its lines
python tools/datasets.py --check    # exit 1 if the file does not fit the data

Only numbers of examples and of lengths are written, nothing of the data themselves.
"""

from __future__ import annotations

import argparse
import sys

from memnb.tasks import catalogue, counts


def updated() -> dict[str, counts.Counts]:
    """The committed aggregates, counted anew for every data set that is here."""
    known = counts.load() if counts.file().exists() else {}
    for status in catalogue.list_data():
        name = status.card.name
        if status.ready and status.card.kind != "generated":
            known[name] = counts.of_data(name)
    return {name: known[name] for name in catalogue.CARDS if name in known}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    path = counts.file()
    wanted = counts.as_csv(updated())
    if path.exists() and path.read_text(encoding="utf-8") == wanted:
        return 0
    if check:
        print(f"{path} does not fit the data here; run tools/datasets.py.", file=sys.stderr)
        return 1
    path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
