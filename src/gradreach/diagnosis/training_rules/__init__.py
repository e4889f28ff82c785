"""One question asked of a whole training a file."""
