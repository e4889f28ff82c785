"""Runs somebody's training script as it is, watched."""
