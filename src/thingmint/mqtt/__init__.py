"""Face: the devices' door."""
