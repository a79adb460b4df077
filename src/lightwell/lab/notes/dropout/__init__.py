"""The note on dropout: rows of attention weights (row_sums.py), and how often a text repeats before it helps."""
