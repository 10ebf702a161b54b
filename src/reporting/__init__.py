"""Text, tables, figures and HTML pages; a leaf that decides nothing.

Records come in; matplotlib figures, strings, CSV and self-contained pages (a template, a style and
a script of the same name) go out. Calls records, metrics, storage and machine; no other room's
types are known here.
"""
