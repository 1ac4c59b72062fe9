"""Many runs on one or many machines: what is missing, in which order, where, within which time.

:mod:`memnb.sweep.planning` says what to train, :mod:`memnb.sweep.sweep` trains it: here
(:mod:`memnb.sweep.local`), on a Ray cluster (:mod:`memnb.sweep.on_ray`), or through Slurm
(:mod:`memnb.sweep.on_slurm`). :mod:`memnb.sweep.merge` takes in rows from elsewhere. PyTorch is
imported in processes that train only.
"""
