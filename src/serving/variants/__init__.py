"""Making exported variants of a network; a bundle carries them, not this."""
