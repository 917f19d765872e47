"""The backends that run model files, one module per runtime; each registers a `BackendBuilder`."""
