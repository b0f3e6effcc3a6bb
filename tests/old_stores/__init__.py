"""Stores of earlier versions, filled through those versions' own APIs, and what these answered; see README.md."""
