"""Write the headline results into README.md, between its markers, and its picture, from the
committed rows.

python tools/readme.py            # rewrite
python tools/readme.py --check    # exit 1 if the README is out of date
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from memnb import evidence, naming, paths
from memnb.draw import beside_tables, figures, style, summary, tables
from memnb.evidence import published, rows, sensitivity
from memnb.evidence.claims import SHALLOW
from memnb.reproduce import plan
from memnb.reproduce.page import as_markdown

README = Path(__file__).resolve().parents[1] / "README.md"
PICTURE = README.parent / "docs" / "degradation.png"
#: Below a laptop table with such a cell: full-scale seeds can agree by chance.
CONSTANT = (
    "Where models share the very same number with ± 0.0, each gives one answer to every input: it "
    "has learned nothing yet.\n"
)
START, END = "<!-- results:start -->", "<!-- results:end -->"


def picture(folder: Path) -> Figure:
    """How alike what tokens read is, over training: Luna and ConvLuna with M = 16, on Text."""
    runs = rows.load_runs(folder)
    full = runs[(runs["preset"] == "paper") & runs["family"].isin(("luna", "convluna"))]
    return figures.degradation(
        rows.load_probes(full), "Full scale", measures=("packed_cosine",), memory=16, task="text"
    )


def caption(drawn: pd.DataFrame) -> str:
    """What the picture shows, in a sentence with its numbers, made from its rows."""
    first, last = rows.first_and_last(drawn)
    begun, cosine = (some.groupby("family")["packed_cosine"].mean() for some in (first, last))
    seeds = last.groupby("family")["run_id"].nunique().min()
    return (
        "How alike the 16 vectors are that every token reads, on Text over training: at 1 they all "
        "point the same way. Luna's begin with a mean cosine, over all blocks, of "
        f"{begun['luna']:.2f} and end with {cosine['luna']:.2f}, ConvLuna's with "
        f"{begun['convluna']:.2f} and "
        f"{cosine['convluna']:.2f} ({seeds} seed{'s' if seeds > 1 else ''} each)."
    )


def rows_of(picture: Figure) -> pd.DataFrame:
    """What a picture was drawn from."""
    drawn = style.attached(picture)
    assert drawn is not None
    return drawn


def mark(picture: Figure) -> str:
    """The hash of the rows that a picture was drawn from, which its file carries."""
    return f"rows {hashlib.sha256(rows_of(picture).to_csv(index=False).encode()).hexdigest()}"


def is_current(file: Path, picture: Figure) -> bool:
    """Whether the file shows these rows; pixels may differ with the version of a library."""
    if not file.is_file():
        return False
    with Image.open(file) as image:
        return bool(image.info.get("Comment") == mark(picture))


def results(folder: Path, drawn: Figure) -> str:
    """The section: findings and verdicts, the picture, then accuracy at both scales."""
    runs = rows.load_runs(folder)
    probes = rows.load_probes(runs)
    plain = rows.of_study(runs[runs["changes"] == ""], "shared")
    planned = plan.models_and_tasks()
    removal = rows.load_removal(runs)
    under = sensitivity.verdicts(runs, removal, probes, rows.load_metrics(runs))
    verdicts = under[sensitivity.AS_JUDGED]
    every = rows.of_study(runs, "chunks")
    short = summary.in_short(
        every, verdicts, published.load(),
        removal=removal, probes=probes, causal=rows.load_causal(every),
        beginning=rows.load_beginning(every),
    )  # fmt: skip
    parts = []
    if len(short.table):
        parts += [
            f"**In short**, at full scale (the benchmark's own sizes; {summary.seeds(every)}):\n",
            "\n".join(f"- **{asked}** {said}" for asked, said in short.answers.items()) + "\n",
            as_markdown(short.table),
            " ".join(short.notes) + "\n",
        ]
    too_few = [v.claim for v in verdicts if v.preset == "paper" and v.verdict == "not enough runs"]
    parts += [
        "**The claims.** *Hold*: comparisons whose whole 95 % interval lies inside its target, of "
        "those that can be judged. *Decided by*: the weakest (C2, where one task is enough: the "
        "strongest, with an interval for all tasks together; C3: the weakest cosine, of runs that "
        "have learned something). `memnb check --evidence` lists them all."
        + (f" At full scale {', '.join(too_few)} have not enough runs yet.\n" if too_few else "\n"),
        as_markdown(tables.judged_claims(verdicts)),
        "Laptop verdicts describe small tasks that were tuned so that ConvLuna-16 learns; they are "
        f"no evidence for full scale (see [Limits](#limits)).{first_operator_in(verdicts)}\n",
        f"{summary.under_other_choices(under)} What each choice is, and every number, stands in "
        "[notebooks/08_claims.ipynb](notebooks/08_claims.ipynb).\n",
        "![A panel per block: cosine similarity of the packed rows of Luna and of ConvLuna, over "
        f"training](docs/{PICTURE.name})\n",
        f"*{caption(rows_of(drawn))}*\n",
    ]
    # At full scale what the paper's models are compared with stands below them: memories between
    # chunks (C5), and the controls that decide how a gain of the filter may be read.
    others = every[(every["changes"] == "") & ~every["family"].isin(plain["family"])]
    full = pd.concat([plain, others], ignore_index=True)
    full = full[full["preset"] == "paper"]
    table = tables.accuracy(full, planned=planned).drop(columns="Source")
    of_models = table[table["Model"] != tables.OPERATOR_ROW]
    shown = [c for c in table if not of_models[c].isin([style.MISSING, "–"]).all()]
    without = " and ".join(str(column) for column in table if column not in shown)
    limit = f"; no run yet on {without}" if without else ""
    table = table[shown]
    ran = (~table.drop(columns="Model").isin([style.MISSING, "–"])).any(axis=1)
    ran |= table["Model"] == naming.model_label("transformer")  # what claim C2 compares with
    parts += [
        f"**Full scale** (the authors' settings{limit}): test accuracy in percent, mean ± standard "
        "deviation over seeds (number of seeds); –: not planned, or no such rule. Written by `make "
        "readme` from the rows in `data/results/`, like all of this section.\n",
        as_markdown(table[ran].reset_index(drop=True)),
        "ChunkMem and RMT mask padding; the other models look at it, as the authors' code does.\n",
    ]
    parts += folded(
        "What the filter does without a memory, which decides how the gains of ConvLuna may be "
        "read",
        as_markdown(beside_tables.filter_alone(every)),
        beside_tables.filter_alone_reading(every) + "\n",
    )
    quick = plain[plain["preset"] == "quick"]
    asked = tables.first_token_reading(rows.load_beginning(quick))
    table = tables.accuracy(quick, scale="quick", planned=planned).drop(columns="Source")
    parts += folded(
        "Laptop scale: test accuracy on small versions of the tasks",
        as_markdown(table),
        "`make reproduce` trains three seeds of ListOps and Pathfinder again, except Pathfinder's "
        "of the Transformer and PoolLuna-16.\n",
        *([CONSTANT] if "± 0.0 " in as_markdown(table) else []),
        f"{tables.first_operator_alone(quick)} {asked}".strip() + "\n",
    )
    return "\n".join(parts)


def folded(summary: str, *parts: str) -> list[str]:
    """What is shown on a click; Markdown within HTML stands between empty lines."""
    return [f"<details><summary>{summary}</summary>\n", *parts, "</details>\n"]


def first_operator_in(verdicts: Sequence[evidence.Verdict]) -> str:
    """From how many laptop comparisons nothing follows, as one token would do for both sides."""
    laptop = [verdict.evidence for verdict in verdicts if verdict.preset == "quick"]
    count = sum(int(compared["result"].eq(SHALLOW).sum()) for compared in laptop)
    if not count:
        return ""
    return (
        f" Nothing is concluded from {count} of their comparisons, all on short ListOps: no run of "
        "either side is more than 2 points above what its first operator alone gives."
    )


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
    style.apply()
    drawn = picture(paths.stored_results())
    wanted = updated(text, results(paths.stored_results(), drawn))
    if wanted == text and is_current(PICTURE, drawn):
        return 0
    if check:
        print(
            f"README.md or docs/{PICTURE.name} is out of date with data/results; "
            "run `make readme`.",
            file=sys.stderr,
        )
        return 1
    README.write_text(wanted, encoding="utf-8")
    drawn.savefig(PICTURE, dpi=160, metadata={"Software": None, "Comment": mark(drawn)})
    plt.close("all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
