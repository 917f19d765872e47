"""The explanation methods, one module per family; each registers its methods."""
