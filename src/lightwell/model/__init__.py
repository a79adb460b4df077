"""One decoder, described by its configuration: a batch of tokens becomes logits.

In: token ids of shape (B, T). Out: logits of shape (B, T, V).
Read first: decoder.py, then attention.py.
"""
