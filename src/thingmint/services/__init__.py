"""The use cases: one method, one transaction. APIs translate to and from these."""
