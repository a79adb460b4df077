"""The note on causal attention.

The tests of a mask (checks.py) on models of any kind (models.py), and what a model learns without one: experiment.py.
"""
