"""Contenders train the same shape in turns, each in its own process; out come their speeds, ratios and memory.

Read first: rounds.py (who runs when), then pacer.py (what a contender does meanwhile). Shapes are in shapes.py.
"""
