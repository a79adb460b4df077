"""The figures of a run before it starts: what it takes, and which model and how many steps suit the time there is.

Read first: plan.py, then memory.py. For a time: scaling_law.py, budget.py and deadline.py.
"""
