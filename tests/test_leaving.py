"""Clients that leave, send halves or read nothing; a slow LLM; who may call."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from promptprobe.agents import (
    Service,
    gate,
    langchain_tools,
)
from promptprobe.agents.rewrites import RewriteAnswer
from serving import ENVIRONMENT, PROMPT, answer, counting, served, settled


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_its_work(service, stream):
    with served(service) as port, counting(service) as calls:
        body = json.dumps({"prompt": PROMPT, "n": 8, "stream": stream}).encode()
        head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head.encode() + body)
            while not calls:
                time.sleep(0.01)
        assert settled(calls) < 25
        assert answer(port, "/v1/images/generations", {"prompt": "a cat", "quality": "low"})[0] == 200


def test_langchain_that_gives_up_stops_its_work(service, tmp_path):
    tool = langchain_tools(service, tmp_path)[0]

    async def given_up():
        task = asyncio.create_task(tool.ainvoke({"prompt": PROMPT}))
        while not calls:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with counting(service) as calls:
        asyncio.run(given_up())
        assert settled(calls) < 25


def test_what_is_half_sent_or_not_read_ends(service, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.4)
    monkeypatch.setattr(gate, "SLOW", 0.4)
    with served(service) as port:
        for half, expected in ((b"POST /v1/im", b""), (b"", b""), (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{", b"HTTP/1.1 408")):  # fmt: skip
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.settimeout(5)
                client.sendall(half)
                assert client.recv(1000).startswith(expected)
        body = json.dumps({"prompt": PROMPT, "quality": "low", "size": "1600x1600", "n": 2}).encode()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(30)
            client.connect(("127.0.0.1", port))
            client.sendall(
                b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(body)
                + body
            )
            assert client.recv(1) == b"H"
            assert answer(port, "/v1/images/generations", {"prompt": "a cat", "quality": "low"})[0] == 200
            time.sleep(0.6)
            with pytest.raises(ConnectionResetError):  # cut off, not waited for
                while client.recv(2**16):
                    pass
                raise ConnectionResetError


class SlowRewriter:
    """Says nothing until it is told to."""

    name, calls_llm = "slow", True

    def __init__(self):
        self.asked, self.may_answer = threading.Event(), threading.Event()

    def rewrite(self, request):
        self.asked.set()
        assert self.may_answer.wait(30)
        return RewriteAnswer([])


def test_a_server_that_ends_tells_who_waits():
    async def never(scope, receive, send):
        await asyncio.Event().wait()

    async def talk() -> list[dict]:
        told: list[dict] = []

        async def receive():
            return {"type": "http.request", "body": b""}

        async def send(message):
            told.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
        task = asyncio.create_task(gate.Gate(never)(scope, receive, send))
        await asyncio.sleep(0.01)
        task.cancel()
        await task
        return told

    head, body = asyncio.run(talk())
    assert head["status"] == 503 and "being stopped" in json.loads(body["body"])["error"]["message"]


def test_while_an_llm_is_asked_the_device_is_free(service):
    slow = SlowRewriter()
    own = Service(dataclasses.replace(service.plan, rewriter=slow, threshold=99.0, guard="off"))
    results = []
    thread = threading.Thread(target=lambda: results.append(own.optimize(PROMPT)))
    thread.start()
    assert slow.asked.wait(30)
    assert own.score(["a cat"])[0]["prompt"] == "a cat" and not results
    slow.may_answer.set()
    thread.join(30)
    assert results[0][0]["stop_reason"] == "rounds used up"


def test_only_loopback_is_served():
    run = subprocess.run(
        [sys.executable, "-m", "promptprobe", "serve", "--host", "0.0.0.0"], env=ENVIRONMENT, capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 2 and "only loopback is served" in run.stderr
