"""Write the headline results into README.md, between its markers, and its picture, from the
committed rows.

python tools/readme.py            # rewrite
python tools/readme.py --check    # exit 1 if the README is out of date
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from memnb import evidence, naming, paths
from memnb.draw import beside_tables, claim_tables, figures, speed_tables, style, summary, tables
from memnb.evidence import benchmarks, published, rows, sensitivity
from memnb.evidence.claims import SHALLOW, UNJUDGED
from memnb.reproduce import plan
from memnb.reproduce.frames import as_markdown
from memnb.words import counted

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
        f"{cosine['convluna']:.2f} ({counted(seeds, 'seed')} each)."
    )


def rows_of(picture: Figure) -> pd.DataFrame:
    """What a picture was drawn from."""
    drawn = style.attached(picture)
    assert drawn is not None
    return drawn


def mark(picture: Figure) -> str:
    """The hash of a picture's rows and of the words on it, which its file carries."""
    words = [text.get_text() for text in picture.texts]
    shown = "\n".join([rows_of(picture).to_csv(index=False), *words])
    return f"rows and words {hashlib.sha256(shown.encode()).hexdigest()}"


def is_current(file: Path, picture: Figure) -> bool:
    """Whether the file shows these rows and words; pixels may differ with a library's version."""
    if not file.is_file():
        return False
    with Image.open(file) as image:
        return bool(image.info.get("Comment") == mark(picture))


def results(folder: Path, drawn: Figure) -> str:
    """The section: findings, verdicts, accuracy and the picture; on a click what is behind them."""
    runs = rows.load_runs(folder)
    probes, removal = rows.load_probes(runs), rows.load_removal(runs)
    plain = rows.of_study(runs[runs["changes"] == ""], "shared")
    every = rows.of_study(runs, "chunks")
    planned = plan.models_and_tasks()
    under = sensitivity.verdicts(runs, removal, probes, rows.load_metrics(runs))
    verdicts = under[sensitivity.AS_JUDGED]
    short = summary.in_short(
        every, verdicts, published.load(),
        removal=removal, probes=probes, causal=rows.load_causal(every),
        beginning=rows.load_beginning(every),
    )  # fmt: skip
    table, limit = full_scale(every, plain, planned)
    parts = [
        *in_short(short.gist),
        as_markdown(by_scale(verdicts)),
        "A claim holds in a comparison whose whole 95 % interval lies inside its target; it is "
        "*partly supported* where only some hold, or where a part of it cannot be judged yet. "
        f"*Full scale* is the authors' settings at the benchmark's own sizes{limit}; *laptop "
        "scale* is small tasks that were tuned so that ConvLuna-16 learns: no evidence for full "
        "scale. All of this section is written by `make readme` from the rows in "
        "`data/results/`.\n",
        "**Test accuracy at full scale**, percent, mean ± standard deviation over seeds (number of "
        "seeds); the number in a name is M:\n",
        as_markdown(table),
        "PoolLuna filters by max pooling. ChunkMem and RMT carry a memory from chunk to chunk. "
        "Local convolution and ConvLuna without memory are controls: the filter, and no memory "
        "([the models](docs/reading.md#the-models)). –: not planned, or no such rule.\n",
        "![A panel per block: cosine similarity of the packed rows of Luna and of ConvLuna, over "
        f"training](docs/{PICTURE.name})\n",
        f"*{caption(rows_of(drawn))}*\n",
    ]
    if short.answers:
        parts += folded(
            "Questions, answers and the numbers behind them",
            bullets(f"**{asked}** {said}" for asked, said in short.answers.items()),
            *([as_markdown(short.table)] if len(short.table) else []),
            bullets(map(linked, short.notes)),
        )
    parts += folded(
        "The verdicts in numbers, and under other choices",
        as_markdown(claim_tables.judged_claims(verdicts)),
        "*Decided by*: the weakest comparison (C2, where one task is enough: the strongest, with "
        "an interval for all tasks together; C3: the weakest cosine, of runs that have learned "
        "something). `memnb check --evidence` lists them all.\n",
        f"{first_operator_in(verdicts)}{summary.under_other_choices(under)} What each choice is, "
        "and every number, stands in [notebooks/08_claims.ipynb](notebooks/08_claims.ipynb).\n",
    )
    parts += folded(
        "What the filter does without a memory, which decides how the gains of ConvLuna may be "
        "read",
        as_markdown(beside_tables.filter_alone(every)),
        beside_tables.filter_alone_reading(every) + "\n",
    )
    quick = plain[plain["preset"] == "quick"]
    asked = tables.first_token_reading(rows.load_beginning(quick))
    table = tables.accuracy(quick, scale="quick", planned=planned)
    parts += folded(
        "Laptop scale: test accuracy on small versions of the tasks",
        as_markdown(table),
        "`make reproduce` trains three seeds of ListOps and Pathfinder again, but one of Luna-4 "
        "and ConvLuna-4, and none of Pathfinder's Transformer and PoolLuna-16.\n",
        *([CONSTANT] if "± 0.0 " in as_markdown(table) else []),
        f"{tables.first_operator_alone(quick)} {asked}".strip() + "\n",
        beside_tables.filter_alone_in_short(every, "quick") + "\n",
    )
    return "\n".join(parts)


def in_short(gist: Sequence[str]) -> list[str]:
    """The most important findings, and how fast this is."""
    said = [*gist, *speed()]
    return ["**In short**, at full scale:\n", bullets(said)] if said else []


def bullets(sentences: Iterable[str]) -> str:
    """A list in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences) + "\n"


def linked(text: str) -> str:
    """``text`` with the notebooks that it names as links."""
    return re.sub(r"notebooks/\w+\.ipynb", r"[\g<0>](\g<0>)", text)


def speed() -> list[str]:
    """How much faster than the authors' code this is, where that was measured."""
    timings = benchmarks.load(benchmarks.stored())
    device = benchmarks.main_device(timings)
    steps = benchmarks.of_suite(timings, "step", device, "text")
    said = speed_tables.faster(steps, benchmarks.references())
    return [f"{said} [Steps, lengths, whole runs](notebooks/11_speed.ipynb)."] if said else []


def by_scale(verdicts: Sequence[evidence.Verdict]) -> pd.DataFrame:
    """A claim per row, its verdict and how much of it holds at each scale."""
    cells: dict[str, dict[str, str]] = {}
    for verdict in verdicts:
        held, judged = verdict.held
        share = f"<br>holds in {held} of {counted(judged, 'comparison')}" if judged else ""
        # A claim is judged on what has run: of one task alone nobody should have to find that out.
        rows_judged = verdict.evidence[~verdict.evidence["result"].isin(UNJUDGED)]
        if len(only := naming.task_order(rows_judged["task"])) == 1:
            share += f", on {naming.task_label(only[0])} alone"
        line = cells.setdefault(f"**{verdict.claim}** {verdict.statement}", {})
        scale = naming.preset_label(verdict.preset).capitalize()
        line[scale] = f"**{verdict.verdict}**{share}"
    return pd.DataFrame.from_dict(cells, orient="index").reset_index(names="Claim")


def full_scale(
    every: pd.DataFrame, plain: pd.DataFrame, planned: Collection[tuple[str, str]]
) -> tuple[pd.DataFrame, str]:
    """The table of accuracy, of models and tasks that have run, and which tasks have not.

    What the paper's models are compared with stands below them: memories between chunks (C5), and
    the controls that decide how a gain of the filter may be read.
    """
    others = every[(every["changes"] == "") & ~every["family"].isin(plain["family"])]
    full = pd.concat([plain, others], ignore_index=True)
    full = full[full["preset"] == "paper"]
    table = tables.accuracy(full, planned=planned)
    of_models = table[table["Model"] != tables.OPERATOR_ROW]
    shown = [c for c in table if not of_models[c].isin([style.MISSING, "–"]).all()]
    without = " and ".join(str(column) for column in table if column not in shown)
    table = table[shown]
    ran = (~table.drop(columns="Model").isin([style.MISSING, "–"])).any(axis=1)
    ran |= table["Model"] == naming.model_label("transformer")  # what claim C2 compares with
    return table[ran].reset_index(drop=True), f" (no run yet on {without})" if without else ""


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
        f"Nothing is concluded from {counted(count, 'laptop comparison')}, all on short ListOps: "
        "no run of either side is more than 2 points above what its first operator alone gives. "
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
