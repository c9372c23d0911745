"""libvpx as a device: clips, first passes and sessions. It has no opinions."""
