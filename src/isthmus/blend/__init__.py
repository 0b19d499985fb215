"""Several scorers become one, and transfer is let in only as far as validation supports it."""

from isthmus.blend.examples import Examples, gather
from isthmus.blend.fitting import fit_weights
from isthmus.blend.gate import Gated, GateDecision, SliceGate, decide
from isthmus.blend.mixture import Blend, standardise
from isthmus.blend.weights import FittedWeights, fit_blend, gains

__all__ = [
    "Blend",
    "Examples",
    "FittedWeights",
    "GateDecision",
    "Gated",
    "SliceGate",
    "decide",
    "fit_blend",
    "fit_weights",
    "gains",
    "gather",
    "standardise",
]
