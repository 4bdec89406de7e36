"""Servers for tests: started as a user starts them or in a thread, plain requests, counted denoiser calls."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from PIL import Image
from promptprobe.agents import (
    Service,
    gate,
)

PROMPT = "a red car and two blue fish"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "DASHSCOPE"))} | {
    "OMP_NUM_THREADS": "1"
}


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (256, 256)
    return image


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def running(*arguments: str, port: int):
    """A server started as a user starts it, until it listens."""
    command = [sys.executable, "-m", "promptprobe", *arguments, "--port", str(port)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def answer(port: int, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
    """Status and JSON of one plain request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@contextlib.contextmanager
def served(service: Service, app=None):
    """The images endpoint, or another app, in a thread of this process, with its port."""
    import uvicorn
    from promptprobe.agents.server import make_app

    port = free_port()
    config = uvicorn.Config(app or make_app(service), port=port, log_level="warning", http=gate._protocol())
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def counting(service: Service):
    """A list that grows by one at each denoiser call."""
    calls: list[int] = []
    handle = service.plan.scorer.pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


def settled(calls: list[int]) -> int:
    """How many calls there were once there were no more for a while."""
    while True:
        before = len(calls)
        time.sleep(0.6)
        if len(calls) == before:
            return before
