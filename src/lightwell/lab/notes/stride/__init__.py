"""The note on the stride: how often windows show a token (exposure.py), what both sides share (leaks.py), and arms of
equal epochs or tokens (arms.py, experiment.py).
"""
