"""The MQTT gateway: what devices connect to."""
