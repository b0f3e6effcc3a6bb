"""The native API: a REST API with one envelope for everything."""
