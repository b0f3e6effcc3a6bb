"""Who is calling, and may they: credentials, their proof, permissions."""
