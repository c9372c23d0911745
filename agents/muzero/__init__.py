"""MuZero: networks, search, replay, losses and learner.

Import from the modules: what only plays must not load what learns.
"""
