"""Which candidate: compare finished runs, combine them, and make one the champion."""
