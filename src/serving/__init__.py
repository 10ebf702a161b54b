"""A trained network with its preprocessing: pictures in, labels with probabilities out."""
