"""Statistics of candidates: which is best, how sure that is, and what would be needed to tell.

Pure functions from stored predictions, grouped by candidate and seed, to the records of a verdict:
multiple comparisons with the best, intervals over pictures and seeds, the winner's bias, power,
paired tests, contradicted labels; and of single answers: label sets that cover the true one,
promised errors, and pictures unlike the training set. Arrays come in, records go out. Calls
targets, metrics and records.
"""
