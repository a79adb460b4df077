"""One optimizer step: the loss of a batch, its gradient in micro-batches, the norm clipped, the optimizers moved.

In: a model with its loss (`TrainedLoss`), a `Batch`, `Optimizers`. Out: new weights, the loss and the gradient's norm.
Read first: update.py, then loss.py and optimizers.py.
"""
