"""The stages of a training run: collect, imitate, self-play."""
