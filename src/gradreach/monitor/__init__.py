"""Watches a training run from inside its process, without changing it."""
