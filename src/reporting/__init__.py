"""Text, tables, figures and HTML pages from records; a leaf that computes no result."""
