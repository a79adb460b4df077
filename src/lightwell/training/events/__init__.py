"""What happens beside the updates of a run: evaluations, samples, checkpoints, signals, and what goes wrong.

In: a `Job`. Out: records in the run's folder, and what its listener hears.
Read first: milestones.py and saving.py.
"""
