"""A data directory: its files, how it is made, and its lock."""
