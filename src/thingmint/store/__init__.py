"""How the registry is kept: SQL that both engines take, and the engines. Nothing here decides anything."""
