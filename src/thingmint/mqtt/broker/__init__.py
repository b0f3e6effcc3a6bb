"""The brokers that carry the devices' messages, and their common interface."""
