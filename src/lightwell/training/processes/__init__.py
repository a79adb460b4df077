"""Several processes train one model: the process group, a model that is sharded over it, and its tensors.

In: torchrun's environment. Out: a `ProcessGroup`, of one process where a run was started by itself.
Read first: process_group.py.
"""
