"""Makes fleets: keys and certificates for a production line.

What is in ``folder``, ``devices`` and ``keys`` runs where the command runs, and knows no store. ``production`` runs in
the process that has the store open. It gets requests with public keys only.
"""
