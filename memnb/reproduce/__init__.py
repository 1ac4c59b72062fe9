"""From rows to a report: the manifest, the plan of runs, strict notebooks, the page of results.

Nothing here imports PyTorch; the one exception is a training process of its own, started by
:mod:`memnb.reproduce.trainer`.
"""
