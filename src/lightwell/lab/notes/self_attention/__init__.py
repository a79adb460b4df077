"""The note on self-attention.

Scaling on random vectors (saturation.py), weight and influence inside trained models (influence.py), and training with
and without scaling: experiment.py.
"""
