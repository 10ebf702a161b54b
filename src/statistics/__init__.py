"""Which candidate to use and how sure that is: pure functions over stored predictions."""
