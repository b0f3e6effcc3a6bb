"""MQTT 3.1.1 and 5, sans I/O: packets, their encoding, and the server's side of a connection."""
