"""Stores of earlier versions, filled through the APIs of those versions, with recorded answers; see README.md."""
