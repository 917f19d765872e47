"""The built-in architectures: one module per family; `blemish.config.catalog` registers them."""
