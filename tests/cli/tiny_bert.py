"""A tiny random BERT as a folder, with the tokenizer of the language model's own tests."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch


def write_bert(folder: Path) -> Path:
    """Two layers of width 32 that read up to 64 tokens."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    home = Path(__file__).parents[1] / "language" / "conftest.py"
    spec = spec_from_file_location("tiny_tokenizers", home)
    assert spec
    assert spec.loader
    tokenizers = module_from_spec(spec)
    spec.loader.exec_module(tokenizers)
    tokenizer = tokenizers.word_pieces()
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        **sizes,
    )
    BertModel(config).save_pretrained(folder)
    return folder
