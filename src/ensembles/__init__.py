"""Combinations of trained models, from their predictions alone: pure functions of arrays."""
