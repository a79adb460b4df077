"""The note on the batch size.

How noisy gradients are: estimators (gradient_noise.py), put to a model (gradients.py). Which size wins: experiment.py.
"""
