"""A step on disk, whole or not at all: weights, the optimizers' state, and every number that a resume needs.

In: tensors by name and plain values. Out: a folder with a SHA-256 of each file; the newest one that is intact.
Read first: checkpoint.py.
"""
