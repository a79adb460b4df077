"""A text becomes a corpus: the tokens of both sides on disk, made once and taken up again.

In: a `TextConfig`. Out: a `Corpus`, two token files with their tokenizer. There are two ways to it:

    corpus.py     in memory, kept in the cache; what every command uses, and what opens the result of the second way
    prepare.py    for a text larger than memory: plan.py makes units, workers.py encodes them in several processes,
                  held_out_order.py sorts the held-out side, manifest.py describes the finished folder

Read first: corpus.py, then prepare.py and units/. shards.py is what lies on disk, report.py what is said of it, and
datatrove_step.py encodes the units on many machines.
"""
