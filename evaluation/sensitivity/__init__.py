"""How a verdict depends on the choice of clips, metric and targets."""
