"""Test tools for Blemish and for packages that extend it."""

from blemish.testing.raises import raises

__all__ = ["raises"]
