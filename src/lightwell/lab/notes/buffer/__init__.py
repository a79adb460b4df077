"""The note on buffers: a table of a module's tensors (tensor_rows.py), and masks that are held in four ways."""
