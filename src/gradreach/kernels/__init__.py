"""Recurrent arithmetic: replays of recorded passes and the float64 reverse scan."""
