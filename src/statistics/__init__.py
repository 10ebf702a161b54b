"""Statistics of candidates: pure functions from stored predictions to the records of a verdict."""
