"""Logits become a loss, the loss an update, and the whole a run on disk that can be stopped and resumed anywhere.

In: a `RunConfig`. Out: a `Run`, the folder with its configuration, metrics, samples and checkpoints.
Read first: loop.py, then start.py; the rooms in the order settings/, update/, checkpoints/, events/, runs/.
"""
