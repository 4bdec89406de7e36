"""Calls take turns, also across processes, and can be cancelled; their arguments are bounded."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from promptprobe.agents import (
    BusyError,
    CancelledError,
    Service,
    call_tool,
)
from promptprobe.agents.turns import device_turn
from serving import ENVIRONMENT, PROMPT

import promptprobe
from promptprobe.errors import InputError


def test_async_python_can_be_cancelled(service):
    async def cancelled():
        task = asyncio.create_task(service.run("optimize", PROMPT, seed=5))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await service.run("score", ["a cat"])

    assert asyncio.run(cancelled())[0]["prompt"] == "a cat"
    record = asyncio.run(promptprobe.optimize_async("a cat", plan=service.plan))
    assert record.prompt == "a cat"


def test_calls_take_turns_and_a_full_queue_is_busy(service):
    small = Service(service.plan, waiting=1)
    inside, most, failures = [], [], []

    def call():
        try:
            with small.turn():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.3)
                inside.pop()
        except BusyError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
        time.sleep(0.02)
    for t in threads:
        t.join()
    assert max(most) == 1 and len(most) == 2 and len(failures) == 2 and "busy" in failures[0]
    cancel = threading.Event()
    cancel.set()
    with small.turn(), pytest.raises(CancelledError):
        small.generate(PROMPT, cancel=cancel)
    small.generate("a cat")
    with small.turn():
        place = small.turns.place()
        with pytest.raises(BusyError) as raised:
            asyncio.run(small.run("generate", PROMPT))  # no thread is needed to be told so
        place.leave()
    assert raised.value.retry_after >= 1


def test_a_turn_is_for_the_device_that_an_offloaded_pipeline_computes_on(service, monkeypatch):
    asked = []
    pipeline = service.plan.scorer.pipeline
    for module in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer, pipeline.vae):
        monkeypatch.setattr(module, "_hf_hook", SimpleNamespace(execution_device="cuda:1"), raising=False)
    monkeypatch.setattr(
        "promptprobe.agents.turns.device_turn", lambda device, *_: asked.append(device) or contextlib.nullcontext()
    )
    with service.turn():
        pass
    assert str(pipeline.device) == "cpu" and asked == ["cuda:1"]


HOLDS_THE_GPU = """
import sys
from promptprobe.agents.rewrites import RewriteAnswer
from promptprobe.agents.turns import device_turn

with device_turn("cuda:0", 1):
    print("mine", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_do_not_share_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_GPU], env=ENVIRONMENT | {"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(BusyError, match="another process is using cuda:0"), device_turn("cuda:0", 0.2):
            pass
        with device_turn("cuda:1", 0.2), device_turn("cpu", 0), device_turn("cpu", 0):
            pass
        other.kill()  # a process that dies leaves its turn
        other.wait()
        with device_turn("cuda:0", 0.2):
            pass
    finally:
        other.kill()


def test_tools_refuse_out_of_range_arguments(service):
    with pytest.raises(InputError, match="seeds is 1000; it must be between 1 and 64"):
        call_tool(service, "select_seed", {"prompt": PROMPT, "seeds": 1000})
    with pytest.raises(InputError, match="at most 10000 are taken"):
        service.generate("a " * 6000)
