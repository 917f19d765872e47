"""DamageLens compatibility: its REST routes, response schemas and checkpoint names."""
