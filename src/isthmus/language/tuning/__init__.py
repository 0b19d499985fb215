"""A language model tuned by behaviour, by distillation, whole or in part."""
