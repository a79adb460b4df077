"""The folder of a run, and what is done with it: its records and curve, its best model, its scores.

In: a path. Out: a `Run`, a `LanguageModel`, an `Evaluation`, a picture.
Read first: run.py, then load.py and scoring.py.
"""
