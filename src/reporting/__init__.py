"""Pictures and texts made from arrays and records."""
