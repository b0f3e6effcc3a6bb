"""Brings fleets in: a source reads what another service or a file has, and the importer adds it to the store.

A source (``sources``) runs where the command runs and knows no store: it yields batches of items, which are JSON
objects. The importer runs in the process that has the store open, and adds each batch in one transaction.
"""
