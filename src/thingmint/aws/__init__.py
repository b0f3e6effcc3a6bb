"""The AWS API: the service model drives it, and the registry answers."""
