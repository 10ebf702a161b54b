"""Measured claims: each module ends as rows of one table."""

# First, as in every process of the project: it says how OpenMP's threads wait.
import src as src
