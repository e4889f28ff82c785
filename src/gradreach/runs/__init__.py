"""What gradreach writes where it is run: the only code that writes files."""
