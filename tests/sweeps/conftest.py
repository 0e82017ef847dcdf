"""Makes the helper modules of this folder importable below it: pytest puts this folder on the path."""
