"""The recipe: its schema, how it is loaded, and the built-in recipes. Torch-free."""
