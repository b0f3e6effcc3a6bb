"""The MQTT gateway, which devices connect to."""
