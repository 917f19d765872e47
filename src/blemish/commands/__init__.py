"""The command line, one file a verb; each imports its room only when it runs."""
