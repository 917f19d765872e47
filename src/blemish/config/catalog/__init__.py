"""The built-in architectures, as declarations: one module per group, imported at the first look-up."""
