"""What was measured, told to people: sentences, terminal text and one offline page."""
