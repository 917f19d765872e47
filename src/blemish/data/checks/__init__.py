"""The kinds of faults that a check looks for: in photographs, objects, label names and copies."""
