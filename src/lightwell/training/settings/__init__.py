"""The configuration of a run: all settings in one frozen dataclass, from a preset, a file and single values.

Read first: config.py, then compose.py. table.py writes docs/configuration.md.
"""
