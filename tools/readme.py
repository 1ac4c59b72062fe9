"""Write the headline results into README.md, between its markers, from the committed rows.

python tools/readme.py            # rewrite
python tools/readme.py --check    # exit 1 if the README is out of date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from memnb import evidence, paths
from memnb.draw import beside_tables, style, tables
from memnb.evidence import rows
from memnb.reproduce.page import as_markdown

README = Path(__file__).resolve().parents[1] / "README.md"
START, END = "<!-- results:start -->", "<!-- results:end -->"


def results(folder: Path) -> str:
    """The section: accuracy at both scales, then the verdicts."""
    runs = rows.load_runs(folder)
    verdicts = evidence.check(runs, rows.load_removal(runs), rows.load_probes(runs))
    plain = rows.of_study(runs[runs["changes"] == ""], "shared")
    parts = [
        "Test accuracy in percent, mean ± standard deviation over seeds (number of seeds). "
        "Written by `make readme` from the rows in `data/results/`.\n"
    ]
    # At full scale what the paper's models are compared with stands below them: memories between
    # chunks (C5), and the controls that decide how a gain of the filter may be read.
    every = rows.of_study(runs, "chunks")
    others = every[(every["changes"] == "") & ~every["family"].isin(plain["family"])]
    full = pd.concat([plain, others], ignore_index=True)
    full = full[full["preset"] == "paper"]
    table = tables.accuracy(full).drop(columns="Source")
    shown = [c for c in table if c == "Model" or (table[c] != style.MISSING).any()]
    table = table[shown]
    ran = (table.drop(columns="Model") != style.MISSING).any(axis=1)
    parts += [
        "**Full scale** (the authors' protocol)\n",
        as_markdown(table[ran].reset_index(drop=True)),
        tables.gains(verdicts) + "\n",
        beside_tables.controls_reading(every).replace("\n", " ") + "\n",
    ]
    quick = plain[plain["preset"] == "quick"]
    table = tables.accuracy(quick, scale="quick").drop(columns="Source")
    parts += ["**Laptop scale** (`make reproduce`)\n", as_markdown(table)]
    claims = tables.claims(verdicts)[["Claim", "Statement", "Scale", "Verdict", "Effect", "Seeds"]]
    parts += [
        "**The claims**, each with the comparison that decides: the weakest one, or for C2, which "
        "one task can settle, the strongest; and with its 95 % interval.\n",
        as_markdown(claims),
    ]
    return "\n".join(parts)


def updated(text: str, section: str) -> str:
    """``text`` with what stands between the markers replaced."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{section}{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    wanted = updated(text, results(paths.stored_results()))
    if wanted == text:
        return 0
    if check:
        print("README.md is out of date with data/results; run `make readme`.", file=sys.stderr)
        return 1
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
