"""Records the examples of the OpenAPI documents: calls of a temporary server, whose answers become package data."""
