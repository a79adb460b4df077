"""The commands: each reads its flags, calls one function of the library, and shows what came back.

Read first: app.py. Modules that compute are imported only by the commands that need them.
"""
