"""Rows in, pictures and printed tables out. Nothing here trains, measures or imports torch.

* :mod:`memnb.draw.style`: one look for the package (a fixed colour and marker per family).
* :mod:`memnb.draw.figures` and ``*_figures``: tidy frames to matplotlib figures.
* :mod:`memnb.draw.tables` and ``*_tables``: tidy frames to tables of ready text, and to sentences.
* :mod:`memnb.draw.diagrams`: the block diagrams, drawn from the formulas.
"""
