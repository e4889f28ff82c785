"""Exact gradient flow through time of a user's model."""
