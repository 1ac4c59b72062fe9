"""Training: a config goes in, a run folder comes out."""
