"""A run: its records, the lock on its folder, and what there is to look back at."""
