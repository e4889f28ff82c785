"""Control and remedies over seeds: planned, run in fresh processes, compared."""
