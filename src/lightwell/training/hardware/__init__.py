"""The machine that a run finds: its device, the precision that suits it, its memory, and who it is.

In: the setting `device`. Out: a torch.device, a dtype, bytes that are free, and what `lightwell doctor` shows.
Read first: device.py.
"""
