"""The note on ReLU: exact zeros along a training (zeros.py), and what five nonlinearities cost and gain."""
