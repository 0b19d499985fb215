"""`isthmus pretrain`, `tune-language`, `distil-language`: what they leave, say and refuse."""

from pathlib import Path

import pytest
from cli_runner import Result, Shop, curves, run

SIZES = {
    "scratch": "bert",
    "vocabulary": "600",
    "dim": "32",
    "layers": "2",
    "heads": "2",
    "steps": "6",
    "head_steps": "2",
    "batch_tokens": "512",
}
QUICK = [word for key, value in SIZES.items() for word in ("--set", f"pretraining.{key}={value}")]
FEW = (
    *("--set", "tuning.steps=4"),
    *("--set", "tuning.batch_examples=32"),
    *("--set", "tuning.negatives=16"),
    *("--set", "tuning.width=16"),
    *("--set", "tuning.rank=2"),
    *("--set", "evaluation.bootstrap=100"),
)


def ask(shop: Shop, folder: Path, *words: str | Path) -> Result:
    command, *rest = words
    return run(command, "--config", shop.folder / "isthmus.toml", *rest, cwd=folder)


@pytest.fixture(scope="module")
def own(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A folder with a model of the shop's own, and what was said."""
    folder = tmp_path_factory.mktemp("own")
    return folder, ask(shop, folder, "pretrain", *QUICK, "--output", "bert")


def test_a_pretrained_model_is_read_by_the_next_command(own, shop: Shop) -> None:
    folder, said = own
    assert said.code == 0, said.err
    assert "Perplexity on" in said.out
    assert "--set language.model=bert" in said.out
    (kept,) = (folder / "runs").glob("*/curves/pretraining/whole")
    for name in ("loss", "validation"):
        assert len(curves(kept)[name]) == 6
    found = ask(shop, folder, "align", "--set", "language.model=bert", "--json")
    assert found.code == 0, found.err


def test_methods_stand_in_one_table_and_weights_where_they_were_promised(own, shop) -> None:
    folder, _ = own
    model = ("--set", "language.model=bert", *FEW)
    methods = ("--method", "side", "--method", "lora", "--method", "side")
    said = ask(shop, folder, "tune-language", *model, *methods)
    assert said.code == 0, said.err
    for word in (
        "method",
        "learns",
        "peak MB",
        "s/step",
        "side",
        "lora",
        "books NDCG@10",
        "isthmus compare",
    ):
        assert word in said.out
    assert said.out.count("-side") == 1, "a method that is named twice is tuned once"
    for method in ("side", "lora"):
        (kept,) = (folder / "runs").glob(f"*/curves/tuning-{method}")
        assert curves(kept)["loss"]
    tuned = next((folder / "models").glob("*-lora"))
    used = ask(
        shop, folder, "align", *model, "--set", f"language.tuned={tuned.resolve()}", "--json"
    )
    assert used.code == 0, used.err
    found = ask(
        shop, folder, "tune-language", *model, "--method", "lora", "--domain", "gear", "--json",
        *("--merged", "whole", "--track", "none"),
    )  # fmt: skip
    assert found.code == 0, found.err
    assert not list((folder / "runs").glob("*/curves/tuning-lora-gear"))
    # Of one domain, so it cannot be held against those of both.
    assert [row["method"] for row in found.json["methods"]] == ["lora"]
    assert list(found.json["methods"][0]["quality"]) == ["gear"]
    assert (folder / "whole" / "model.safetensors").is_file()


def test_a_student_is_taught(own, shop: Shop) -> None:
    folder, _ = own
    quick = ("distillation.teacher=bert", "distillation.student_layers=1", "distillation.steps=4")
    words = [word for setting in quick for word in ("--set", setting)]
    said = ask(shop, folder, "distil-language", *words, "--output", "student")
    assert said.code == 0, said.err
    assert "shared with the teacher" in said.out
    assert (folder / "student" / "config.json").is_file()
    (kept,) = (folder / "runs").glob("*/curves/distillation")
    assert curves(kept)["loss"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tune-language", "--method", "loro"], "--method loro: tuning.method"),
        (["tune-language", "--method", "prefix", "--merged", "m"], "cannot be merged"),
        (["tune-language", "--method", "lora", "--method", "dora", "-o", "m"], "one folder"),
        (["tune-language", "--domain", "boks"], "'boks' is no domain. Did you mean 'books'?"),
        (["pretrain", "--objective", "clm"], "is an encoder, which learns by mlm"),
        (["pretrain", "--set", "language.model=./absent"], "no such folder: './absent'"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_line(words, complaint, shop, tmp_path) -> None:
    found = ask(shop, tmp_path, *words)
    assert found.code == 2
    assert complaint in found.complaint


def test_a_model_that_nobody_knows_without_a_network(shop: Shop, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = ask(shop, tmp_path, "pretrain", "--set", "language.model=nobody/nothing")
    assert found.code == 2
    for part in ("no folder here", "not in the local Hugging Face cache", "to a folder"):
        assert part in found.complaint


def test_running_out_of_memory_names_what_to_lower(own, shop: Shop, monkeypatch) -> None:
    folder, _ = own

    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")

    monkeypatch.setattr("isthmus.language.tuning.side.SideNetwork.forward", full)
    model = ("--set", "language.model=bert", "--set", "seed=9", *FEW)
    found = ask(shop, folder, "tune-language", *model)
    assert found.code == 2
    assert "Lower tuning.batch_examples" in found.complaint
