"""The kinds of faults that a check looks for: in images, objects, label names and copies."""
