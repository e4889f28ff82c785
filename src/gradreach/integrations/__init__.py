"""``gradreach.watch`` inside training frameworks: one file each, none of which imports its own.

A framework calls a callback by its methods' names, so that an object with these methods is one;
importing Lightning alone would take six seconds. Each file says which calls it answers.
"""
