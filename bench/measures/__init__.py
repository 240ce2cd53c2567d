"""One module per measure: what its contestants do in a round."""
