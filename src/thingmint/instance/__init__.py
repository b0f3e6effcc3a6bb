"""A data directory: what lies in it, how it is made, and who holds it."""
