"""Tables of labels, in steps: lines, columns, and what the lines say."""
