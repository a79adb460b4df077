"""Files become documents, documents are split into training and validation, and both become tokens on disk.

In: paths of files, folders and globs, or the default corpus. Out: a `TokenFile`, a memory-mapped stream of token ids.
Read first: documents.py, then split.py, tokenizer.py and prepare.py; for large corpora prepare_corpus.py.
"""
