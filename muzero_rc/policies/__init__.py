"""Policies by name: baselines, learned ones, the hindsight search."""
