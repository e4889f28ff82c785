"""Runs as a page that grows while they train: read-only, for this machine, nothing installed."""
