"""Evaluation: BD-rate, landing and the tables that compare policies."""
