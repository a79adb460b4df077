"""The contenders: Lightwell's variants, its peers, and the bare matrix product, each a process of its own.

Read first: contender.py (who there is, and the command that starts each), then pacer.py (what a contender does between
its steps). worker.py is Lightwell itself, peers.py the others, shapes.py what all of them train.
"""
