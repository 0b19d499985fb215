"""The façade: fit, recommend, find similar items, profile, evaluate, export, save, load."""

from isthmus.recommender.facade import Recommender
from isthmus.recommender.profile import Profile

__all__ = ["Profile", "Recommender"]
