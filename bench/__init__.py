"""Comparisons with other projects; `python -m bench --list` names the rows of the table of speed."""
