"""From a person's pictures to verified arrays, parts and batches."""
