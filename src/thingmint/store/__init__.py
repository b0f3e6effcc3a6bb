"""The database: SQL that both engines accept, and the engines. Nothing here makes decisions."""
