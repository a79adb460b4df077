"""Texts become token ids, and ids texts.

    text --tokenizer.py--> ids --token_file.py--> a stream on disk, memory-mapped, that windows are cut from

In: texts, and the name of a tokenizer: one of three that building.py makes from the texts, or a file that loading.py
reads. Out: a `Tokenizer`, and a `TokenFile` with the ids of many documents.
Read first: tokenizer.py, then token_file.py. Two encoders stand behind the tokenizer for speed, with identical ids:
table_encoding.py where there are no merges, fast_encoding.py where fastokens is installed; pieces.py cuts long texts.
concatenated.py reads several files as one stream, stream.py decodes while a text is generated, and token_bytes.py
says which bytes a token stands for.
"""
