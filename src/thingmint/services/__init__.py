"""The use cases: one method, one transaction. Faces translate to and from these."""
