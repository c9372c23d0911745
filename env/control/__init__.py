"""Control without learning: constants, rate control, search speed, groups of pictures."""
