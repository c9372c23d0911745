"""The grid of clips, targets and methods: what encodes it and keeps its results."""
