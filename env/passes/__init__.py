"""Passes over a clip: first pass, probe encodes, final pass, retries."""
