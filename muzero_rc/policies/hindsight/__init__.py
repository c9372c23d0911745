"""The hindsight search as a policy, with its log."""
