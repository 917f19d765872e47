"""Architectures: one module per family."""
