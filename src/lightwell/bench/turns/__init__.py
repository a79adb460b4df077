"""The turns of `lightwell bench`: contenders train in rounds, so that whatever slows the machine slows them all.

In: a `Suite`. Out: speeds, ratios within rounds, and memory. Read first: rounds.py.
"""
