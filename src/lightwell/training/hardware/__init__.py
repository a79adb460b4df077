"""The machine: which device computes and in which precision, how fast it is, and how much memory is free.

Read first: device.py. `lightwell doctor` is machine.py; host.py says what a measurement was made on.
"""
