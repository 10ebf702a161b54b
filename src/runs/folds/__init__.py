"""Cross-validation: a run a fold, and one that stands for all of them."""
