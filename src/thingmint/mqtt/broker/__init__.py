"""Where devices' messages go: one interface, and the brokers behind it."""
