"""Circuit boards for Blemish: one example of every kind of plug-in."""
