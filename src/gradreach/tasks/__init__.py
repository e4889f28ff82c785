"""Tasks with a known dependency length, one a file; data is generated, seeded and plain NumPy."""
