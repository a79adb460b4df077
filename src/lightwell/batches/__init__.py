"""Tokens become windows of one context length, windows become batches.

In: a `TokenFile`. Out: `Batch`es of inputs and targets, any of which can be computed from its number alone.
Read first: windows.py, then order.py and loader.py.
"""
