"""Files become documents, and documents a training and a held-out side.

    names --sources.py--> files --formats.py--> texts --documents.py--> documents --split.py--> two sides

In: names of files, folders and globs, or of one of the two corpora that are always there (corpora.py); what of them is
wanted is in config.py. Out: `Document`s on the two sides of a `Split`, and a report in which nothing is left out.
Read first: documents.py, then split.py; a format is added in formats.py. Below it, unpacking.py gives the bytes of a
file in blocks, decoding.py their text. No token is known here: that is tokens/.
"""
