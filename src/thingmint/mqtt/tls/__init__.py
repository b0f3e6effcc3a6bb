"""TLS of devices, terminated by the gateway itself or by a TLS proxy in front of it."""
