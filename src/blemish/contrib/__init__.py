"""Plug-ins that ship with Blemish and load through the same entry points as third-party plug-ins."""
