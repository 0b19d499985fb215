"""Learning that goes on: a fitted system and a larger snapshot in, its successor out."""
