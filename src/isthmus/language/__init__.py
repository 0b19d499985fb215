"""Texts → vectors, by a pretrained language model."""

from isthmus.language.encoder import EncodingReport, TextEncoder

__all__ = ["EncodingReport", "TextEncoder"]
