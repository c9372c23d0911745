"""Encoders that need no libvpx, for tests, benchmarks and quick experiments."""
