"""Where fleets come from."""
