"""Encoding: one path from a clip to its score, and from a film to a WebM file."""
