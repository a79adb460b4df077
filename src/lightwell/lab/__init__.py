"""What a learner was told becomes something measured: seven notes, an experiment and a verdict each.

In: the name of a note, a text, a budget. Out: a verdict card, as JSON, pictures, Markdown and a page.
Read first: experiment.py, then buffer.py, the smallest of the seven.
"""
