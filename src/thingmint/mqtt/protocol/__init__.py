"""MQTT 3.1.1 and 5, sans I/O: packets, their encoding, and one end of a connection."""
