"""Run folders to tidy rows, rows to statistics, statistics to verdicts. No PyTorch here."""

from __future__ import annotations

from memnb.evidence import published
from memnb.evidence.claims import Verdict, check
from memnb.evidence.results import commit
from memnb.evidence.rows import (
    load_attention,
    load_beginning,
    load_causal,
    load_filters,
    load_lengths,
    load_metrics,
    load_probes,
    load_removal,
    load_runs,
    load_usage,
)
from memnb.evidence.statistics import Effect, difference, summarise

__all__ = [
    "Effect",
    "Verdict",
    "check",
    "commit",
    "difference",
    "load_attention",
    "load_beginning",
    "load_causal",
    "load_filters",
    "load_lengths",
    "load_metrics",
    "load_probes",
    "load_removal",
    "load_runs",
    "load_usage",
    "published",
    "summarise",
]
