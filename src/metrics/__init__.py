"""Pure functions on probabilities and targets: how good a classifier is, and how sure we are."""
