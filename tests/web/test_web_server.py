"""The command: what it says when it cannot serve."""

import socket
from functools import partial

import pytest

from fewcell import cli
from fewcell.errors import ConfigError, MissingDependencyError, ModelError, WriteError
from fewcell.web import serve

serve_here = partial(serve, host="127.0.0.1", port=0, models=["default"])


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ConfigError, match="Choose another port"):
            serve_here(tmp_path, port=other.getsockname()[1])


def test_a_folder_or_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="is no folder"):
        serve_here(tmp_path / "nothing")
    with pytest.raises(ModelError, match="defualt"):
        serve_here(tmp_path, models=["defualt"])


def test_a_folder_is_served_once(tmp_path, monkeypatch):
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: serve_here(tmp_path))
    with pytest.raises(WriteError, match="is served already"):
        serve_here(tmp_path)
    addresses = []
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    for _ in range(2):  # one after the other may
        serve_here(tmp_path, ready=addresses.append)
    assert len(addresses) == 2


def test_a_missing_library_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("fewcell.errors.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"\.\[web\]"):
        serve_here(tmp_path)


def test_the_command_passes_its_options_on(tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr("fewcell.web.serve", lambda root, **options: asked.update(options, root=root))
    monkeypatch.setattr("sys.argv", ["fewcell", "serve", str(tmp_path), "--port", "0", "--model", "runs/mine/model"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert asked["root"] == tmp_path
    assert (asked["host"], asked["port"], asked["models"]) == ("127.0.0.1", 0, ["default", "runs/mine/model"])
    asked["ready"]("http://127.0.0.1:1/?token=x")
    assert "http://127.0.0.1:1/?token=x" in capsys.readouterr().out
