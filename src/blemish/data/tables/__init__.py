"""Tables of labels: lines (table_reader), columns, and the labels or boxes of the lines."""
