"""A unit is the work that one process does at a time: about 32 MB of text, from files to shards of tokens.

    sources --cutting.py--> units --reading.py--> blocks of documents --encoding.py--> a shard for each side, a record

In: the files of a large corpus. Out: shards on disk, and a `UnitRecord` that is written last, so that a unit without
one is not done. Where is cut depends on the files alone, so every byte is the same wherever a unit is encoded.
Read first: cutting.py.
"""
