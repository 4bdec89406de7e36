"""Broken input of three kinds: prompt files, answers of language models, endpoints; nothing may raise or take long.

    python benchmarks/fuzz.py [--files 1000] [--answers 1000] [--faults 50] [--seed 0]

A prompt file must end in prompts or in one line of an `InputError`, an answer in rewrites that the guard can read, an
endpoint in an answer with notes. Everything that raises, or takes more than `LIMIT` seconds of CPU, is printed with the
seed that makes it again, and the exit status is 1. A tenth of the answers has 100,000 characters.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from promptprobe.agents.fact_check import read_fact_check
from promptprobe.agents.guard import compare
from promptprobe.agents.rewriter import ChatRewriter
from promptprobe.agents.rewrites import RewriteRequest, Try, parse_rewrites

from promptprobe.errors import InputError
from promptprobe.facts import facts_of
from promptprobe.prompt_files import Notes, expand_rows, read_prompts

LIMIT = 2.0  # seconds of CPU for one input
KEY = "sk-never-to-be-seen-0123456789"
PROMPT = 'two red cats behind a wooden chair, a sign that says "OPEN", no dogs'
GOOD = {"rewrites": [{"strategy": "plain words", "prompt": PROMPT}, {"strategy": "order", "prompt": "a dog"}]}
PROMPTS = [
    PROMPT, "1girl, (blue eyes:1.2), <lora:x:0.8> BREAK --ar 3:2 --no fog", "一只红色的猫坐在木桌上", "बिल्ली \u200d 👩‍🚀 قطة", "a {red|blue} __thing__",
    "İstanbul\u2028in the rain", "a 50% C# $5 ${x} sign",
]  # fmt: skip
SCRAPS = [
    "{", "}", "[", "]", '"', "'", ",", ";", ":", "\t", "\\", "\n", "\r", "\x00", "\ud83d", "\u2028", "\ufeff", "--prompt ", "--no", "Steps: 2, Seed:",
    "<think>", "</think>", "<|channel|>final<|message|>", "```", "|", "__", "$$", "(", ")", "1.", "-", "not ", "no ", "left of ", "9" * 30, "“", "/*", "//",
]  # fmt: skip
ENDINGS = ["txt", "csv", "tsv", "json", "jsonl", "ndjson", "md", "yaml", "parquet", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("files", 1000), ("answers", 1000), ("faults", 50), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Fickle() as server:
        found = [
            tried("prompt files", args.files, args.seed, lambda chance: a_file(chance, Path(folder))),
            tried("answers", args.answers, args.seed, an_answer),
            tried("endpoint faults", args.faults, args.seed, lambda chance: a_fault(chance, server)),
        ]
    sys.exit(any(found))


def tried(kind: str, count: int, seed: int, run: Callable[[random.Random], None]) -> int:
    """Run `count` inputs, print what went wrong and how long the slowest took; how many went wrong."""
    wrong, longest = 0, 0.0
    for number in range(seed, seed + count):
        began = time.process_time()
        try:
            run(random.Random(f"{kind} {number}"))
        except Exception:
            wrong += 1
            print(f"{kind}, seed {number}: {traceback.format_exc(limit=-3)}")
        took = time.process_time() - began
        longest = max(longest, took)
        if took > LIMIT:
            wrong += 1
            print(f"{kind}, seed {number}: {took:.1f} s of CPU")
    print(f"{kind}: {count}, {wrong} went wrong, the slowest took {longest:.2f} s of CPU")
    return wrong


def a_file(chance: random.Random, folder: Path) -> None:
    path = folder / f"prompts.{chance.choice(ENDINGS)}".rstrip(".")
    path.write_bytes(file_bytes(chance))
    try:
        read = read_prompts(path, chance.choice([None, None, None, "prompt", "p", ""]))
        notes = Notes(str(path), read.unit)
        rows = expand_rows(read.rows, notes=notes) if chance.random() < 0.2 else read.rows
    except InputError as error:
        check_line(str(error))
        return
    assert rows and all(row.prompt == " ".join(row.prompt.split()) for row in rows)
    json.dumps([row.as_dict() for row in rows], allow_nan=False, ensure_ascii=False).encode()
    for note in read.notes + notes.lines():
        check_line(note)


def check_line(text: str) -> None:
    assert text.strip() and "\n" not in text and len(text) < 5000, text[:200]
    text.encode()


def file_bytes(chance: random.Random) -> bytes:
    """A file that somebody could have, damaged."""
    prompts = [scribbled(chance, chance.choice(PROMPTS)) for _ in range(chance.choice([1, 3, 30]))]
    rows = [{chance.choice(["prompt", "p", "caption", "text", "x"]): p, "seed": chance.choice([1, "a", None])} for p in prompts]  # fmt: skip
    divider = chance.choice(",;\t|")
    text = chance.choice(
        [
            lambda: "\n".join(prompts), lambda: json.dumps(rows), lambda: json.dumps({str(i): r for i, r in enumerate(rows)}),
            lambda: "\n".join(json.dumps(r, ensure_ascii=False) for r in rows), lambda: json.dumps({"annotations": rows}),
            lambda: "\n".join([f"id{divider}prompt", *(f'{i}{divider}"{p}"' for i, p in enumerate(prompts))]),
            lambda: "\n".join(f'--prompt "{p}" --seed {i} --negative_prompt "x"' for i, p in enumerate(prompts)),
            lambda: "\n".join(f"{p}\nNegative prompt: fog\nSteps: 20, Seed: {i}, Size: 5x6\n" for i, p in enumerate(prompts)),
            lambda: "things:\n" + "\n".join(f"  - {p}" for p in prompts),
        ]
    )()  # fmt: skip
    for _ in range(chance.choice([0, 1, 2])):
        text = damaged(chance, text)
    encoding = chance.choice(["utf-8"] * 4 + ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp1252", "shift-jis"])  # fmt: skip
    data = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    if chance.random() < 0.2:
        data = bytes(b ^ (chance.random() < 0.01) * chance.randrange(256) for b in data[:20_000])
    return data if chance.random() < 0.9 else data[: chance.randint(0, len(data))]


def scribbled(chance: random.Random, text: str) -> str:
    for _ in range(chance.choice([0, 0, 1, 4])):
        at = chance.randint(0, len(text))
        text = text[:at] + chance.choice(SCRAPS) * chance.choice([1, 1, 1, 30]) + text[at:]
    return text


def damaged(chance: random.Random, text: str) -> str:
    """Cut, doubled, nested, shuffled, or with something strewn in."""
    at = chance.randint(0, len(text))
    many = chance.choice([3, 300, 30_000])
    return chance.choice(
        [
            lambda: text[:at], lambda: text[at:] + text[:at], lambda: text * 5, lambda: chance.choice(SCRAPS) * many + text,
            lambda: text + chance.choice(SCRAPS) * many, lambda: chance.choice(["[", '{"prompt":', '{"a":[']) * many + text,
            lambda: text[:at] + "".join(chance.choices(SCRAPS, k=40)) + text[at:], lambda: text.replace('"', "'"),
            lambda: "".join(chance.sample(text, len(text))),
        ]
    )()  # fmt: skip


def an_answer(chance: random.Random) -> None:
    text = answer_text(chance)
    for rewrite in parse_rewrites(text, 4):
        assert 0 < len(rewrite.prompt) <= 2000
        json.dumps([rewrite.strategy, rewrite.prompt], ensure_ascii=False).encode()
        assert compare(PROMPT, rewrite.prompt).verdict in ("kept", "unsure", "lost")
    assert len(read_fact_check(text, facts_of(PROMPT), 3)) == 3


def answer_text(chance: random.Random) -> str:
    """What a language model could say, and what none would; a tenth of 100,000 characters."""
    rewrites = [{"strategy": "s", "prompt": scribbled(chance, chance.choice(PROMPTS))} for _ in range(chance.choice([1, 4, 40]))]  # fmt: skip
    checks = [{"rewrite": chance.choice([i, str(i), None, -1, "x"]), "lost": chance.choice([[1], [], ["1"], 5]), "unsure": [], "added": []} for i in range(4)]  # fmt: skip
    value = chance.choice([{"rewrites": rewrites}, rewrites, [r["prompt"] for r in rewrites], {"checks": checks}, {"a": {"b": rewrites}}])  # fmt: skip
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 2]))
    around = chance.choice(["{}", "```json\n{}\n```", "<think>{}</think>{}", "{}</think>{}", "Sure!\n{}\nEnjoy", "<|channel|>analysis<|message|>{}"])  # fmt: skip
    text = around.replace("{}", text)
    for _ in range(chance.choice([0, 1, 1, 3])):
        text = damaged(chance, text)
    if chance.random() < 0.1:
        few = [text[:50], *chance.sample(SCRAPS, chance.choice([1, 2, 8]))]
        while len(text) < 100_000:
            text += chance.choice(few) * chance.choice([1, 1, 500])
    return text[:100_000]


def a_fault(chance: random.Random, server: Fickle) -> None:
    server.script = [fault(chance) for _ in range(chance.choice([1, 2, 12]))]
    if chance.random() < 0.5:
        server.script.append(Fault(200, {}, chat(json.dumps(GOOD))))
    writer = ChatRewriter(
        model="m", base_url=server.url, api_key=KEY, seed=1, timeout=1, sleep=lambda seconds: None, effort=chance.choice([None, "low"])
    )  # fmt: skip
    began = time.monotonic()
    answer = writer.rewrite(RewriteRequest(PROMPT, 0.0, 0.5, [], [Try(PROMPT, 0.0)], 4, 60, deadline=20))
    assert time.monotonic() - began < 25 and (answer.rewrites or answer.notes)
    assert KEY not in repr(answer)
    for note in answer.notes:
        check_line(note)


class Fault:
    """One reply: status, headers, body; `cut` drops the connection after so many bytes, `pause` waits between pieces."""

    def __init__(self, status: int, headers: dict[str, str], data: bytes, cut: int | None = None, pause: float = 0.0):
        self.status, self.headers, self.data, self.cut, self.pause = status, headers, data, cut, pause

    def pieces(self) -> Iterator[bytes]:
        data = self.data[: self.cut]
        size = max(1, len(data) // 8)
        for at in range(0, len(data), size):
            time.sleep(self.pause)
            yield data[at : at + size]


def chat(content: object, **more: object) -> bytes:
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}).encode()  # fmt: skip


def fault(chance: random.Random) -> Fault:
    """A random status with a random body, headers and delivery."""
    words = chance.choice(["unsupported parameter", "slow down", "quota", f"bad key {KEY}", "model not found", "max_tokens too large", "engine broke"])  # fmt: skip
    name = chance.choice(["max_tokens", "seed", "temperature", "response_format", "stream", "messages"])
    bodies = [
        lambda: chat(answer_text(chance)), lambda: chat(chance.choice([None, 5, [], {}, "", [{"type": "x"}]]), reasoning=chance.choice([None, 3, "hm"])),
        lambda: json.dumps({"error": chance.choice([words, {"message": words, "param": name}, [words], 7, {"message": [name]}])}).encode(),
        lambda: json.dumps({"detail": [{"loc": ["body", name], "msg": words}]}).encode(), lambda: f"<html><title>{words}</title>".encode(),
        lambda: b"".join(b"data: " + chance.choice([b"[DONE]", b"{}", chat("x"), b"[1", b'{"choices":[{"delta":{"content":"x"}}]}']) + b"\n\n" for _ in range(9)),
        lambda: chance.randbytes(chance.choice([0, 1, 500])), lambda: b"[" * 100_000, lambda: b" " * 5_000_000,
        lambda: json.dumps(chance.choice([None, 1, "x", [], [{}], {"choices": 1}, {"choices": [1]}, {"choices": [{"message": "x"}]}])).encode(),
    ]  # fmt: skip
    data = chance.choice(bodies)()
    headers = chance.choice([{}, {}, {"retry-after": chance.choice(["1", "-5", "never", "1e999"])}, {"content-encoding": "gzip"}, {"content-type": "x/y; z"}])  # fmt: skip
    status = chance.choice([200] * 6 + [400, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 501, 502, 503, 529, 301, 204, 999])  # fmt: skip
    return Fault(status, headers, data, chance.choice([None] * 5 + [0, 1, len(data) // 2]), chance.choice([0, 0, 0, 0.05]))  # fmt: skip


class Fickle:
    """A server on loopback that replies with what stands in `script`, the last one for ever."""

    def __init__(self) -> None:
        self.script: list[Fault] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_POST(self) -> None:
                self.close_connection = True
                self.rfile.read(int(self.headers["content-length"]))
                reply = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                try:
                    self.send_response(reply.status)
                    for name, value in {"content-length": str(len(reply.data)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in reply.pieces():
                        self.wfile.write(piece)
                except OSError:
                    pass  # the client has left

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> Fickle:
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    main()
