"""TLS towards devices, by the gateway itself or by an edge in front of it."""
