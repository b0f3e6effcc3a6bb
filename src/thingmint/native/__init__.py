"""The native API: a REST API with the same envelope in all answers."""
