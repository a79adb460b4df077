"""A model and a text become a trace: every intermediate of the formula, by name, with named axes.

In: a `LanguageModel` and a text. Out: a `Trace`.
Read first: trace.py.
"""
