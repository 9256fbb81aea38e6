"""A server that is killed at any moment loses no correction that it has answered."""

import re
import shutil
import signal
import subprocess
import sys

import httpx
import pytest

pytestmark = pytest.mark.slow
CELLS = "/api/images/discs.png/cells/default"


@pytest.fixture
def start():
    servers = []

    def begin(root):
        command = [sys.executable, "-c", "from fewcell.cli import main; main()", "serve", str(root), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        address = re.search(r"http\S+", server.stdout.readline())[0]
        base = address.split("/?")[0]
        client = httpx.Client(base_url=base, headers={"origin": base}, follow_redirects=True, timeout=60)
        assert client.get(address).status_code == 200
        return server, client

    yield begin
    for server in servers:
        server.kill()
        server.wait()


def test_what_was_answered_is_there_after_a_kill(root, start):
    known = []
    for number in (3, 7, 11):
        server, client = start(root)
        assert client.get(CELLS).json()["n_corrections"] == len(known)
        assert client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [number]}).status_code == 200
        known.append(number)
        server.send_signal(signal.SIGKILL)
        server.wait()
    _, client = start(root)
    facts = client.get(CELLS).json()
    assert not set(known) & set(facts["columns"]["id"])
    assert facts["n_corrections"] == 3


def test_a_segmentation_that_was_killed_goes_on(root, start, wait_for, tmp_path):
    shutil.rmtree(root / "fewcell")
    server, client = start(root)
    job = client.post("/api/images/discs.png/segment", json={"model": "default"}).json()
    server.send_signal(signal.SIGKILL)
    server.wait()
    _, client = start(root)
    job = client.post("/api/images/discs.png/segment", json={"model": "default"}).json()
    assert wait_for(client, job["number"])["state"] == "done"
    assert len(client.get(CELLS).json()["columns"]["id"]) > 60
