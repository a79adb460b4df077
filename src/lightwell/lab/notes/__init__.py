"""The notes, a folder each: its words (note.py), its experiment, its measures and its pictures.

The catalogue finds them; another note is another folder, and nothing else. Smallest of all is buffer/.
"""
