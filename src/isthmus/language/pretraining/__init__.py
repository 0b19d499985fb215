"""Language modelling on texts of one's own: going on from a model, or from nothing."""
