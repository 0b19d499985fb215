"""`isthmus serve` and `isthmus keys`: what cannot be meant is said in one line."""

import json
import socket
from pathlib import Path

import pytest
from cli_runner import run


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = run("keys", "add", "--role", "read", "--role", "ingest", "--note", "shop", cwd=tmp_path)
    secret = made.out.splitlines()[0]
    assert secret.startswith("isk_")
    listed = run("keys", "list", cwd=tmp_path).out
    assert "read, ingest" in listed
    assert "expires never  shop" in listed
    assert secret not in listed
    name = secret.split("_")[1]
    assert run("keys", "list", "--json", cwd=tmp_path).json["keys"][0]["id"] == name
    assert f"Revoked {name} (read, ingest)" in run("keys", "revoke", name, cwd=tmp_path).out
    assert run("keys", "list", cwd=tmp_path).out == ""


def test_a_key_as_json_and_for_some_days(tmp_path: Path) -> None:
    made = run("keys", "add", "--role", "admin", "--days", "7", "--json", cwd=tmp_path)
    assert set(made.json) == {"id", "roles", "key"}
    (kept,) = json.loads((tmp_path / "keys.json").read_text("utf-8"))["keys"]
    assert kept["expires"] - kept["made"] == pytest.approx(7 * 86_400)


def test_keys_that_cannot_be_meant(tmp_path: Path) -> None:
    assert "Did you mean 'read'" in run("keys", "add", "--role", "reed", cwd=tmp_path).complaint
    assert "good for nothing" in run("keys", "add", cwd=tmp_path).complaint
    assert "no such file of keys" in run("keys", "list", cwd=tmp_path).complaint


def serve(folder: Path, *words: str) -> str:
    return run("serve", "--model", str(folder / "model"), *words, cwd=folder).complaint


def test_a_service_that_cannot_be_meant(tmp_path: Path) -> None:
    assert "nobody may call" in serve(tmp_path)
    assert "one way only" in serve(tmp_path, "--no-auth", "--keys", "keys.json")
    assert "open to whoever reaches" in serve(tmp_path, "--no-auth", "--host", "0.0.0.0")
    assert "no such file of keys" in serve(tmp_path, "--keys", "keys.json")
    assert "no such folder" in serve(tmp_path, "--no-auth")
    (tmp_path / "keys.json").write_text('{"keys": []}')
    assert "nobody could call" in serve(tmp_path, "--keys", "keys.json")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "cannot listen there" in serve(tmp_path, "--no-auth", "--port", port)
