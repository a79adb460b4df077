"""What a run can be told: the configuration, its presets, and how a file and flags make one of them.

In: a preset's name, a TOML file, single values. Out: a `RunConfig`, complete and checked. None of it needs torch.
Read first: config.py.
"""
