"""The tests; a package, so that test files can share modules: `from tests.metrics.scenes import row`."""
