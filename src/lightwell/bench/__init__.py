"""Measurements of speed, memory and quality, each against others that take turns with it.

contenders/  who can be measured, and what each of them does
turns/       `lightwell bench`: contenders train the same shape in turns; table.py writes what came out as tables
anatomy.py   where the time of one step goes; check.py, a guard against slow changes
minutes.py   models for a time against models by hand; quality.py, the loss that a recipe reaches
held.py      what each of several processes holds; scale.py, what fits on which GPUs; saving.py, what a checkpoint costs

Read first: turns/rounds.py, then contenders/pacer.py.
"""
