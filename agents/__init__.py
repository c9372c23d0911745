"""Agents: networks, search and learning in JAX; nothing of Gymnasium or libvpx.

`config` and `actions` are plain data; `policy` plays (JAX, haiku); `muzero.search` adds
mctx, `muzero.learner` adds optax. Import from the modules, so that playing loads little.
"""
