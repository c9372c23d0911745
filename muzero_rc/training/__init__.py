"""Training: from a folder of videos to a policy file."""
