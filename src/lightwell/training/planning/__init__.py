"""What a run will take before it starts, and which model suits the time that one has.

In: a configuration, a text, this machine. Out: a `Plan`; for `--minutes`, the shape and the steps that fit.
Read first: plan.py, then budget.py.
"""
