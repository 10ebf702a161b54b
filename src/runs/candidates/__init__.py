"""What competes: each kind of candidate, how it is fitted, asked, and brought back."""
