"""Evaluation: BD-rate, bitrate accuracy and the tables that compare policies."""
