"""Search for the recipe with the best validation metric."""
