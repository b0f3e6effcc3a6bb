"""The rules for certificates, keys, policies and templates. Pure: no I/O, no framework, and callers pass the time."""
