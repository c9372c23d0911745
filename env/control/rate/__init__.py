"""Rate controllers: they keep an encode on its target bitrate."""
