"""One rule a file: each asks a record one question."""
