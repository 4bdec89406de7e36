"""What the servers do under fire: more clients than places, clients that leave, send half or read nothing, a slow LLM.

    OMP_NUM_THREADS=1 python benchmarks/servers.py            # about three minutes on two cores

Prints a table: what was tried, what came, and whether that is a fault. Exit code 1 if anything is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promptprobe.agents import Service, gate
from promptprobe.agents.plan import make_plan
from promptprobe.agents.server import make_app
from promptprobe.agents.tools import call_tool

from promptprobe.runs import make_scorer

AT_ONCE, IN_A_ROW, WARM = 200, 300, 60
LLM_SECONDS = 20
PATH = "/v1/images/generations"
HEAD = "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n"
rows: list[tuple[str, str, bool]] = []


def row(tried: str, came: str, right: bool) -> None:
    """A line of the table."""
    rows.append((tried, came, right))
    print(f"| {tried} | {came} | {'' if right else 'FAULT'} |", flush=True)


@contextmanager
def served(service: Service) -> Iterator[int]:
    """The images endpoint of a service in a thread, as `promptprobe serve` runs it; its port."""
    import uvicorn

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(make_app(service), port=port, log_level="warning", http=gate._protocol(), ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield port
    server.should_exit = True
    thread.join(15)


async def ask(port: int) -> tuple[int, float, str | None]:
    """Status, seconds and Retry-After of one request."""
    began = time.monotonic()
    body = json.dumps({"prompt": "a red car", "quality": "low"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(HEAD.format(path=PATH, host="localhost", kind="application/json", size=len(body), more="Connection: close\r\n").encode() + body)  # fmt: skip
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.read()
    writer.close()
    wait = next((line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("retry-after")), None)
    return int(head.split()[1]), time.monotonic() - began, wait


async def crowd(port: int, count: int) -> list[tuple[int, float, str | None]]:
    return list(await asyncio.gather(*(ask(port) for _ in range(count))))


async def line(port: int, count: int) -> list[tuple[int, float, str | None]]:
    return [await ask(port) for _ in range(count)]


def memory() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def many_at_once(service: Service) -> None:
    used: list[float] = []
    left = service.turns.left

    def leaving(place: Any) -> None:
        used.append(place.used)
        left(place)

    service.turns.left = leaving  # type: ignore[method-assign]
    with served(service) as port:
        alone = statistics.median(t for _, t, _ in asyncio.run(line(port, 3)))
        used.clear()
        came = asyncio.run(crowd(port, AT_ONCE))
    service.turns.left = left  # type: ignore[method-assign]
    good = sorted(t for status, t, _ in came if status == 200)
    busy = [(t, wait) for status, t, wait in came if status == 429]
    places = service.waiting + 1
    row(f"{AT_ONCE} requests at once, {places} places", f"{len(good)} served, {len(busy)} refused with 429",
        len(good) == places and len(busy) == AT_ONCE - places)  # fmt: skip
    slowest = max(t for t, _ in busy)
    row("the slowest refusal", f"{slowest:.2f} s, Retry-After {sorted({str(w) for _, w in busy})} s (one request alone: {alone:.2f} s)", slowest < 1 and all(w for _, w in busy))  # fmt: skip
    row("the longest that one of them had the device", f"{max(used):.2f} s, {max(used) / alone:.2f} x alone", max(used) <= 2 * alone)  # fmt: skip
    row("the slowest served, last in the line", f"{good[-1]:.2f} s, {good[-1] / places / alone:.2f} x {places} x alone", good[-1] <= 2 * places * alone)  # fmt: skip


def leaves(service: Service, calls: list[int]) -> None:
    for stream in (False, True):
        with served(service) as port:
            body = json.dumps({"prompt": "a red car", "n": 8, "stream": stream}).encode()
            calls.clear()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(HEAD.format(path=PATH, host="localhost", kind="application/json", size=len(body), more="").encode() + body)  # fmt: skip
                time.sleep(0.1)
            time.sleep(2)
            steps = service.plan.scorer.steps
            row(f"a client of n=8{', stream' if stream else ''} leaves after 0.1 s", f"{len(calls)} of {8 * steps} denoiser calls", len(calls) < steps)  # fmt: skip


def many_in_a_row(service: Service) -> None:
    with served(service) as port:
        asyncio.run(line(port, WARM))
        before = memory()
        came = asyncio.run(line(port, IN_A_ROW))
        after = memory()
    failed = sum(status != 200 for status, _, _ in came)
    row(f"{IN_A_ROW} requests one after the other", f"{failed} failed, memory {before:.0f} to {after:.0f} MB ({after / before - 1:+.1%})", not failed and after <= 1.05 * before)  # fmt: skip


def slow_llm(plan: Any) -> None:
    class Slow(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.set()
            time.sleep(LLM_SECONDS)
            said = json.dumps({"rewrites": [{"strategy": "plain words", "prompt": "a car that is red"}]})
            reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}]}  # fmt: skip
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    asked = threading.Event()
    llm = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=llm.serve_forever, daemon=True).start()
    service = Service(
        make_plan(
            scorer=plan.scorer, rewriter="llm", llm_base_url=f"http://127.0.0.1:{llm.server_port}/v1", llm_model="m",
            rounds=1, tau=99, guard="code",
        )
    )  # fmt: skip
    told: list[float] = []
    work = threading.Thread(
        target=lambda: call_tool(
            service, "optimize_prompt", {"prompt": "a red car"}, progress=lambda *_: told.append(time.monotonic())
        )
    )
    work.start()
    asked.wait(60)
    began = time.monotonic()
    call_tool(service, "score_prompts", {"prompts": ["a blue cat"]})
    took = time.monotonic() - began
    row(f"score_prompts while an LLM takes {LLM_SECONDS} s", f"{took:.2f} s", work.is_alive() and took < 2)
    work.join(120)
    silent = max(b - a for a, b in itertools.pairwise(told))
    row("the longest silence of progress meanwhile", f"{silent:.1f} s", silent <= 5)


def bad_requests(service: Service) -> None:
    body = json.dumps({"prompt": "a red car", "quality": "low"}).encode()
    with served(service) as port:

        def talk(sent: bytes) -> tuple[str, float]:
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.settimeout(30)
                client.sendall(sent)
                came = client.recv(2000).decode()
            return came.partition("\r\n")[0].partition(" ")[2] or "closed", time.monotonic() - began

        def head(**own: Any) -> bytes:
            values = {
                "path": PATH,
                "host": "localhost",
                "kind": "application/json",
                "size": len(body),
                "more": "",
            } | own
            return HEAD.format(**values).encode()

        for tried, sent, wanted, within in (
            ("a Host of elsewhere", head(host="evil.example") + body, "421", 1), ("an Origin of elsewhere", head(more="Origin: http://evil.example\r\n") + body, "403", 1),
            ("a page of our own", head(more="Origin: http://localhost\r\n") + body, "200", 10), ("text/plain", head(kind="text/plain") + body, "415", 1),
            ("a body of 2 MB", head(size=2**21) + b"x" * 2**21, "413", 1), ("no JSON", head(size=1) + b"{", "400", 1),
            ("half a head", b"POST /v1/im", "closed", 11), ("half a body", head() + body[:5], "408", 11),
        ):  # fmt: skip
            came, took = talk(sent)
            row(tried, f"{came}, {took:.1f} s", came.startswith(wanted) and took < within)
        big = json.dumps({"prompt": "a red car", "quality": "low", "size": "2048x2048", "n": 3}).encode()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(head(size=len(big)) + big)
            client.recv(1)
            status, took, _ = asyncio.run(line(port, 1))[0]
        row("a request beside a client that reads nothing", f"{status}, {took:.1f} s", status == 200)


def main() -> int:
    plan = make_plan(rewriter="offline", rounds=1)
    calls: list[int] = []
    plan.scorer.pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    service = Service(plan)
    service.generate("a red car")
    print("| tried | came | |\n| --- | --- | --- |")
    many_at_once(service)
    leaves(service, calls)
    bad_requests(service)
    slow_llm(plan)
    few = make_scorer(pipeline=plan.scorer.pipeline, steps=3, probe_step=1, judge="focus")
    many_in_a_row(Service(make_plan(scorer=few, rewriter="offline", rounds=0)))
    return int(not all(right for _, _, right in rows))


if __name__ == "__main__":
    sys.exit(main())
