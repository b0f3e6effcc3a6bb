"""The native face: a REST API with one envelope for everything."""
