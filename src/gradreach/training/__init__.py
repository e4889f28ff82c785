"""Training loops for gradreach's own tasks."""
