"""Measures of encodes: BD-rate, bitrate accuracy, statistics, targets."""
