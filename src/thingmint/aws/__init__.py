"""The AWS face: the service model drives it, and the registry answers."""
