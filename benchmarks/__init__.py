"""Measured claims: each module ends as rows of one table."""
