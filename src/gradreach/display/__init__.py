"""Small pictures in text, HTML and figures; knows numbers, never a record."""
