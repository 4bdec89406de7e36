"""Any OpenAI-compatible endpoint: a real server on loopback misbehaves in every way we know, and the rewriter copes.

Each row of `FAULTS` is a server's behaviour, with the prompts and the note that must come out. Nothing may raise, nothing
may take long, and the key never shows.
"""

import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from promptprobe.agents import asking
from promptprobe.agents.answers import clean_text
from promptprobe.agents.endpoint import MAX_ANSWER_BYTES, Endpoint, TooLate
from promptprobe.agents.providers import HOUSES, find_place, ollama_url
from promptprobe.agents.rewriter import ChatRewriter
from promptprobe.agents.rewriters import CachedRewriter, make_rewriter
from promptprobe.agents.rewrites import Rejected, RewriteAnswer, RewriteRequest, Try, parse_rewrites

from promptprobe import InputError

KEY = "kéy-7 of any shape".replace("é", "e").replace(" ", "_")
CARS = ["two red cars"]
GOOD = json.dumps({"rewrites": [{"strategy": "plain words", "prompt": "two red cars"}]})
DRAFT = json.dumps({"rewrites": [{"strategy": "draft", "prompt": "two blue cars on fire"}]})


class Server:
    """`answer(body, number)` gives status, headers and bytes, an iterator of bytes, or None to drop the connection."""

    def __init__(self, answer, get=None):
        self.bodies, self.heads = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.reply(get if get else (404, {}, b"{}"))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.bodies.append(body)
                outer.heads.append(dict(self.headers))
                self.reply(answer(body, len(outer.bodies)))

            def reply(self, what):
                self.close_connection = True
                if what is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, data = what
                try:
                    self.send_response(status)
                    if isinstance(data, bytes):
                        headers = {"content-length": str(len(data)), **headers}
                    for name, value in {"content-type": "application/json", "connection": "close", **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    for piece in [data] if isinstance(data, bytes) else data:
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    pass  # the client has left

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve():
    servers = []

    def start(answer, **options):
        servers.append(Server(answer, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.http.shutdown()
        server.http.server_close()


def writer(server, **options):
    options = {"model": "m", "api_key": KEY, "seed": 7, "timeout": 5, "sleep": lambda s: None, **options}
    return ChatRewriter(base_url=getattr(server, "url", server), **options)


def request(prompt="a pair of crimson automobiles", **more):
    return RewriteRequest(prompt, -0.5, 0.6, [], [Try(prompt, -0.5)], 4, 60, **more)


def chat(content, finish="stop", **message):
    message = {"role": "assistant", "content": content} | message
    reply = {"choices": [{"index": 0, "finish_reason": finish, "message": message}], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}  # fmt: skip
    return 200, {}, json.dumps(reply).encode()


def body(value, status=200, **headers):
    return status, headers, value if isinstance(value, bytes) else json.dumps(value).encode()


def error(status, message, **more):
    return body({"error": {"message": message, **more}}, status)


def events(*chunks, done=True, sep="\n\n"):
    rows = [c if isinstance(c, str) else "data: " + json.dumps(c) for c in chunks]
    return 200, {"content-type": "text/event-stream"}, [(sep.join([*rows, *(["data: [DONE]"] if done else [])]) + sep).encode()]  # fmt: skip


def delta(**values):
    return {"choices": [{"index": 0, "delta": values, "finish_reason": None}]}


def form(sent):
    return (sent.get("response_format") or {}).get("type")


def refuses(test, answer):
    """A server that refuses requests of one kind."""
    return lambda sent, n: answer if test(sent) else chat(GOOD)


def streamed(*chunks, **options):
    return lambda sent, n: events(*chunks, **options) if sent.get("stream") else error(400, "This model only support stream mode, please enable the stream parameter to access the model.")  # fmt: skip


def dripping(sent, n):
    def drip():
        for _ in range(200):
            yield b" "
            time.sleep(0.05)

    return 200, {}, drip()


def endless(sent, n):
    return 200, {}, (b"x" * 65536 for _ in range(10_000))


def prefixed(start, end=""):
    return lambda sent, n: chat(start + GOOD + end)


def always(reply):
    return lambda sent, n: reply


# name: (what the server does, the prompts that come out, how many requests it takes, a part of the first note or None)
FAULTS = {
    # parameters
    "max_tokens renamed": (refuses(lambda b: "max_tokens" in b, error(400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", param="max_tokens")), CARS, 2, None),
    "max_tokens too large": (refuses(lambda b: b["max_tokens"] > 1024, error(400, "max_tokens is too large: 1500. This model supports at most 1024 completion tokens")), CARS, 2, None),
    "context too long": (refuses(lambda b: b["max_tokens"] > 800, error(400, "This model's maximum context length is 2048 tokens, but max_tokens is 1500")), CARS, 2, None),
    "temperature fixed": (refuses(lambda b: "temperature" in b, error(400, "Unsupported value: 'temperature' does not support 0.7 with this model.", param="temperature")), CARS, 2, None),
    "seed unknown": (refuses(lambda b: "seed" in b, error(400, "Invalid JSON payload received. Unknown name \"seed\": Cannot find field.")), CARS, 2, None),
    "seed as an extra input": (refuses(lambda b: "seed" in b, body({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, 422)), CARS, 2, None),
    "several refusals": (refuses(lambda b: "max_tokens" in b or "temperature" in b or "seed" in b, error(400, "unknown arguments: seed, temperature, max_tokens")), CARS, 4, None),
    "schema 400": (refuses(lambda b: form(b) == "json_schema", error(400, "response_format type json_schema is unavailable now")), CARS, 2, None),
    "schema 422": (refuses(lambda b: form(b) == "json_schema", body({"detail": [{"loc": ["body", "response_format", "type"], "msg": "Input should be 'text'"}]}, 422)), CARS, 2, None),
    "schema 404": (refuses(lambda b: form(b) == "json_schema", error(404, "No endpoints found that can handle the requested parameters.", code=404)), CARS, 2, None),
    "schema 500, silent": (refuses(lambda b: form(b) == "json_schema", body(b"Internal Server Error", 500)), CARS, 3, None),
    "any format, silent 400": (refuses(lambda b: form(b), body({}, 400)), CARS, 3, None),
    "seed, silent 422": (refuses(lambda b: "seed" in b, body({}, 422)), CARS, 4, None),
    "all but messages, silent": (refuses(lambda b: len(b) > 3, body({}, 400)), CARS, 8, None),
    "no system role": (refuses(lambda b: b["messages"][0]["role"] == "system", error(400, "System role not supported")), CARS, 2, None),
    "enable_thinking": (lambda b, n: chat(GOOD) if b.get("enable_thinking") is False else error(400, "parameter.enable_thinking must be set to false for non-streaming calls"), CARS, 2, None),
    "effort unknown": (refuses(lambda b: "reasoning_effort" in b, error(400, "Unrecognized request argument supplied: reasoning_effort")), CARS, 2, None),
    "effort of another name": (refuses(lambda b: b.get("reasoning_effort") == "none", error(400, "Unsupported value: 'reasoning_effort' does not support 'none'. Supported values are: 'low', 'high'.")), CARS, 2, None),
    "address without v1": (lambda b, n: error(404, "404 page not found") if n == 1 else chat(GOOD), CARS, 1, "base URL"),
    # streams
    "streams only": (streamed(delta(content=GOOD[:20]), delta(content=GOOD[20:])), CARS, 2, None),
    "stream with thoughts": (streamed(delta(reasoning_content=DRAFT), delta(content=GOOD)), CARS, 2, None),
    "stream with comments": (streamed(": ping", delta(role="assistant", content=""), delta(content=None), delta(content=GOOD)), CARS, 2, None),
    "stream, one line each": (streamed(delta(content=GOOD), sep="\r\n"), CARS, 2, None),
    "stream unasked": (always(events(delta(content=GOOD))), CARS, 1, None),
    "stream with an error": (streamed(delta(content=""), {"error": {"message": "engine broke", "code": 400}}), [], 2, "engine broke"),
    "stream without an end": (streamed(delta(content=GOOD), done=False), CARS, 2, None),
    "Ollama's own lines": (always((200, {}, ("\n".join(json.dumps({"message": {"content": c}, "done": not c}) for c in (GOOD[:9], GOOD[9:], ""))).encode())), CARS, 1, None),
    # thoughts
    "<think>": (prefixed(f"<think>Maybe {DRAFT}</think>\n"), CARS, 1, None),
    "closing tag only": (prefixed(f"Hm, {DRAFT}\n</think>\n\n"), CARS, 1, None),
    "<thinking>": (prefixed(f"<thinking>{DRAFT}</thinking>"), CARS, 1, None),
    "harmony": (prefixed(f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>", "<|return|>"), CARS, 1, None),
    "parts": (always(chat([{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": GOOD}])), CARS, 1, None),
    "answer in reasoning_content": (always(chat("", reasoning_content=GOOD)), CARS, 1, None),
    "draft in reasoning_content": (always(chat(None, reasoning_content=f"Maybe {DRAFT}")), [], 3, "thinking"),
    "thoughts for ever": (lambda b, n: chat("<think>hm " * 50, "length") if b["max_tokens"] < 20_000 else chat(GOOD), CARS, 3, None),
    "thoughts alone": (always(chat(f"<think>{DRAFT}</think>")), [], 3, "thinking"),
    "thoughts not closed": (always(chat(f"<think>{DRAFT}", "length")), [], 3, "thinking"),
    # contents
    "empty, then not": (lambda b, n: chat("") if n == 1 else chat(GOOD), CARS, 2, None),
    "empty": (always(chat("")), [], 3, "empty"),
    "null": (always(chat(None)), [], 3, "empty"),
    "cut off": (always(chat(GOOD[:-2] + ', {"strategy": "x", "prompt": "two r', "length")), CARS, 1, "cut off"),
    "refusal": (always(chat(None, refusal="I can't")), [], 1, "refused to rewrite"),
    "filtered": (always(chat(None, "content_filter")), [], 1, "content filter"),
    "tool call": (always(chat(None, tool_calls=[{"function": {"name": "f", "arguments": GOOD}}])), CARS, 1, None),
    "chatter": (always(chat("I would rather talk about the weather")), [], 1, "no rewrite"),
    "the key in the answer": (always(chat(GOOD.replace("cars", KEY))), ["two red [key]"], 1, None),
    "wrong types": (always(body({"choices": [{"message": {"content": 5, "tool_calls": "x"}, "finish_reason": 7}], "usage": {"prompt_tokens": "many", "completion_tokens": -3}})), [], 3, "empty"),
    "choices of no kind": (always(body({"choices": "none"})), [], 4, "not a chat completion"),
    "no choices": (always(body({"choices": []})), [], 4, "not a chat completion"),
    "a list": (always(body([1, 2])), [], 4, "not a chat completion"),
    "nothing": (always(body(b"")), [], 4, "nothing"),
    "a web page": (always(body(b"<!doctype html><html><title>Log in</title>")), [], 4, "web page"),
    "deep JSON": (always(body(b"[" * 100_000)), [], 4, "not a chat completion"),
    "a long number": (always(body(b'{"choices": ' + b"9" * 50_000 + b"}")), [], 4, "not a chat completion"),
    "not UTF-8": (always(body(b"\xff\xfe\x00\x80" * 50)), [], 4, "not a chat completion"),
    "half a surrogate pair": (always(body(chat(GOOD)[2].replace(b"cars", b"cars \\\\ud83d"))), CARS, 1, None),
    "a mark before JSON": (always(body(b"\xef\xbb\xbf" + chat(GOOD)[2])), CARS, 1, None),
    # errors
    "quota": (always(error(429, "You exceeded your current quota", code="insufficient_quota")), [], 1, "quota"),
    "credit": (always(error(402, "Insufficient credits")), [], 1, "credit"),
    "200 with an error": (always(error(200, "Unexpected endpoint or method", code=404)), [], 1, "Unexpected endpoint"),
    "200 with a text error": (always(body({"error": "no slot"})), [], 1, "no slot"),
    "200, object error": (always(body({"object": "error", "message": "no such thing", "code": 40000})), [], 1, "no such thing"),
    "401": (always(error(401, f"bad key {KEY}")), [], 1, "check the key"),
    "403": (always(error(403, f"not for {KEY}")), [], 1, "check the key"),
    "404": (always(error(404, "The model `m` does not exist", code="model_not_found")), [], 1, "model's name"),
    "redirect": (always((301, {"location": f"https://there/{KEY}"}, b"")), [], 1, "leads on to https://there/[key]"),
    "content": (always(error(400, "Output data may contain inappropriate content.", code="data_inspection_failed")), [], 1, "inappropriate"),
    "429 and on": (lambda b, n: error(429, "slow down") if n == 1 else chat(GOOD), CARS, 2, None),
    "503 for ever": (always(error(503, f"busy {KEY}")), [], 4, "HTTP 503"),
    "524": (lambda b, n: body(b"<title>524</title>", 524) if n == 1 else chat(GOOD), CARS, 2, None),
    "dropped": (lambda b, n: None if n < 3 else chat(GOOD), CARS, 3, None),
    "dropped for ever": (always(None), [], 4, "no connection"),
    "cut transfer": (lambda b, n: (200, {"content-length": "900"}, chat(GOOD)[2]) if n == 1 else chat(GOOD), CARS, 1, "cut off"),
    "retry-after of no kind": (lambda b, n: body({}, 429, **{"retry-after": "soon"}) if n == 1 else chat(GOOD), CARS, 2, None),
    "retry-after never": (lambda b, n: body({}, 429, **{"retry-after": "1e999"}) if n == 1 else chat(GOOD), CARS, 2, None),
    # size and time
    "dripping": (dripping, [], 2, "Timeout"),
    "endless": (endless, [], 4, "not a chat completion"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_endpoint_may_misbehave_in_any_way(name, serve):
    answer, prompts, requests, note = FAULTS[name]
    server = serve(answer)
    options = {"effort": "none"} if name.startswith("effort") else {}
    chat_writer = writer(server, timeout=0.5 if name == "dripping" else 5, **options)
    began = time.process_time()
    got = chat_writer.rewrite(request())
    assert time.process_time() - began < 2
    assert [r.prompt for r in got.rewrites] == (prompts if name != "address without v1" else [])
    assert got.requests == requests == len(server.bodies)
    assert (note in got.notes[0]) if note else not got.notes
    assert got.answered == (bool(prompts and name != "address without v1") or note == "no rewrite")
    assert KEY not in repr(got)


def test_there_are_at_least_fifty_faults():
    assert len(FAULTS) >= 50


@pytest.mark.parametrize("first", [False, True])
def test_the_refusal_of_one_prompts_content_changes_nothing(first, serve):
    def answer(sent, n):
        return body({}, 400) if "bloody" in json.dumps(sent["messages"]) else chat(GOOD)

    server = serve(answer)
    chat_writer = writer(server)
    if not first:
        chat_writer.rewrite(request())
    refused = chat_writer.rewrite(request("a bloody steak"))
    assert not refused.rewrites and not refused.final and not refused.answered
    assert chat_writer.rewrite(request()).rewrites
    assert form(server.bodies[-1]) == "json_schema" and {"seed", "temperature", "max_tokens"} <= set(server.bodies[-1])


def test_what_was_refused_is_left_out_from_then_on_and_nothing_else(serve):
    server = serve(refuses(lambda b: "max_tokens" in b, error(400, "max_tokens: use max_completion_tokens instead")))
    chat_writer = writer(server)
    first = chat_writer.rewrite(request())
    assert first.learned == ["bounds answers with max_completion_tokens"]
    chat_writer.rewrite(request())
    assert len(server.bodies) == 3 and "max_completion_tokens" in server.bodies[-1]
    assert form(server.bodies[-1]) == "json_schema" and {"seed", "temperature"} <= set(server.bodies[-1])


@pytest.mark.parametrize(
    "name", ["schema 500, silent", "any format, silent 400", "seed, silent 422", "all but messages, silent"]
)
def test_what_helped_against_a_silent_refusal_is_remembered(name, serve):
    server = serve(FAULTS[name][0])
    chat_writer = writer(server)
    assert chat_writer.rewrite(request()).learned
    assert chat_writer.rewrite(request("two cars")).requests == 1


def test_an_endpoint_that_took_the_parameters_is_not_asked_in_other_ways(serve):
    server = serve(lambda b, n: body({}, 400) if "bloody" in json.dumps(b["messages"]) else chat(GOOD))
    chat_writer = writer(server)
    chat_writer.rewrite(request())
    assert chat_writer.rewrite(request("a bloody steak")).requests == 1


def test_an_address_without_its_version_is_completed(serve):
    server = serve(lambda b, n: chat(GOOD) if n > 1 else error(404, "page not found"))
    assert writer(server.url.removesuffix("/v1")).rewrite(request()).rewrites and len(server.bodies) == 2


def test_the_example_of_the_system_message_is_no_rewrite(serve):
    copied = "a stone bridge, three red lanterns, the lanterns hang below the bridge"
    server = serve(always(chat(json.dumps({"rewrites": [{"prompt": copied}, {"prompt": "two red cars"}]}))))
    got = writer(server).rewrite(request())
    assert copied in server.bodies[0]["messages"][0]["content"].replace("\n", " ")
    assert [r.prompt for r in got.rewrites] == CARS


def test_every_round_has_another_seed_and_a_repeat_too(serve):
    server = serve(lambda b, n: chat("") if n == 3 else chat(GOOD))
    chat_writer = writer(server)
    for number in (1, 2, 3):
        chat_writer.rewrite(request(round=number))
    seeds = [b["seed"] for b in server.bodies]
    assert len(seeds) == len(set(seeds)) == 4
    assert [b["max_tokens"] for b in server.bodies] == [1500] * 4


def test_room_that_was_given_is_not_exceeded(serve):
    server = serve(always(chat("<think>hm", "length")))
    writer(server, max_tokens=500).rewrite(request())
    assert {b["max_tokens"] for b in server.bodies} == {500}


class Slow:
    """A server with one slot, that takes `seconds` for each answer."""

    def __init__(self, seconds):
        self.seconds, self.slot = seconds, threading.Lock()

    def __call__(self, sent, n):
        with self.slot:
            time.sleep(self.seconds)
        return chat(GOOD)


def test_a_slow_server_with_one_slot_answers_everybody(serve):
    server = serve(Slow(0.3))
    chat_writer = writer(server, timeout=0.9)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda i: chat_writer.rewrite(request(f"prompt {i}")), range(10)))
    assert all(a.rewrites and not a.notes for a in answers)
    assert len(server.bodies) == 10


@pytest.mark.parametrize("answer", [dripping, Slow(5), endless], ids=["dripping", "stalling", "endless"])
def test_everything_ends_at_the_deadline(answer, serve):
    began = time.monotonic()
    got = writer(serve(answer), timeout=60).rewrite(request(deadline=0.7))
    assert time.monotonic() - began < 2 and not got.rewrites and got.notes


def test_a_deadline_ends_waiting_in_the_queue_and_pauses(serve):
    server = serve(Slow(2))
    chat_writer = writer(server)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chat_writer.rewrite, request())
        time.sleep(0.3)
        began = time.monotonic()
        second = pool.submit(chat_writer.rewrite, request(deadline=0.4)).result()
        assert time.monotonic() - began < 1 and second.requests == 0 and "no time left" in second.notes[0]
        assert first.result().rewrites
    busy = serve(always(body({}, 429, **{"retry-after": "20"})))
    began = time.monotonic()
    got = writer(busy, sleep=time.sleep).rewrite(request(deadline=1))
    assert time.monotonic() - began < 1 and "no time left" in got.notes[0]


def test_an_answer_is_read_up_to_its_limit_only(serve):
    sent = []

    def count():
        for _ in range(1000):
            sent.append(65536)
            yield b" " * 65536

    writer(serve(lambda b, n: (200, {}, count())), retries=0).rewrite(request())
    assert sum(sent) < 4 * MAX_ANSWER_BYTES


def test_waiting_is_told(serve):
    server = serve(Slow(2.3))
    seen = []
    chat_writer = writer(server, prices=(1.0, 2.0))
    chat_writer.rewrite(request(), on_wait=seen.append)
    chat_writer.rewrite(request(), on_wait=seen.append)
    assert len(seen) >= 2 and seen[0].seconds > 0.9 and seen[0].cost == 0 and "m at 127.0.0.1" in seen[0].what
    assert seen[-1].input_tokens == 9 and seen[-1].cost == pytest.approx((9 + 2 * 5) / 1e6)


@pytest.mark.parametrize(
    "key", ["hunter2", "abc", "sk-or-v1-0123456789", "ключ-с-буквами", "a b\tc", " padded\n", "x" * 300]
)
def test_a_key_never_shows_whatever_it_looks_like(key, serve):
    shown = key.strip()
    server = serve(lambda b, n: error(400, f"wrong: {shown}; again {shown}"))
    got = writer(server, api_key=key).rewrite(request())
    assert shown not in repr(got) and not got.rewrites and got.notes


@pytest.mark.parametrize("text", [
    "{'rewrites': [{'strategy': 's', 'prompt': 'two red cars'}]}", '{rewrites: [{strategy: s, prompt: two red cars}]}',
    '{"rewrites": [ /* one */ {"strategy": "s", // two\n "prompt": "two red cars",},],}', "```json\n" + GOOD + "\n```",
    '{"rewrites": [{"strategy": "s" "prompt": "two red cars"}]}', '{"rewrites": [{"strategy": "s", "prompt": "two red cars"',
    "“" .join(["{", "rewrites”: [{", "prompt”: ", "two red cars”}]}"]), json.dumps(json.dumps(GOOD)), GOOD.replace('"', '\\"'),
    '{"rewrites": {"plain words": "two red cars"}}', '{"candidates": ["two red cars"]}', '{"result": {"text": "two red cars"}}',
    f"First {DRAFT} but that is wrong.\nSo: {GOOD}", "rewrites:\n- strategy: s\n  prompt: two red cars\n", "1. **plain**: two red cars",
    "<prompt>two red cars</prompt>", f"[THINK]{DRAFT}[/THINK]{GOOD}", f"analysisMaybe {DRAFT}assistantfinal{GOOD}",
])  # fmt: skip
def test_nearly_json_is_read(text):
    assert [r.prompt for r in parse_rewrites(text, 4)] == CARS


@pytest.mark.parametrize(
    "text", [f"{DRAFT}\n</think>\nI give up.", f"<think>{DRAFT}", f"<details>{DRAFT}</details>", "1. red\n</thinking>"]
)
def test_thoughts_alone_give_nothing(text):
    assert parse_rewrites(text, 4) == []


def test_quotes_inside_a_prompt_are_kept_and_half_a_prompt_is_not():
    text = '{"rewrites": [{"strategy": "s", "prompt": "a sign that says "OPEN" on a door"}, {"prompt": "a red ca'
    assert [r.prompt for r in parse_rewrites(text, 4)] == ['a sign that says "OPEN" on a door']


@pytest.mark.parametrize(
    "text", ["👩\u200d🚀 GO", "می\u200cخواهم", "क्\u200dष", "🏴\U000e0067\U000e0062\U000e007f", "\U0001fae8"]
)
def test_joined_letters_and_emoji_survive_cleaning(text):
    assert clean_text(text) == text
    assert clean_text(f"\x00{text}\x1b[0m\u202e\ud83d\n") == f"{text} [0m"


def test_a_thousand_broken_answers_raise_nothing_and_take_no_time():
    chance = random.Random(17)
    pieces = [GOOD, DRAFT, "<think>", "</think>", "<|channel|>final<|message|>", "```json", "{", "[", '"', "'", ":", ",", "}",
              "]", "\\", "\\u", "\\ud83d", "\u2028", "\x00", "\ud83d", "prompt", '{"prompt": "', "//", "/*", "#", "1. a\n", "\n",
              "null", "9" * 50, "“", "<details ", "[" * 50, '{"a":' * 30, " " * 100, "👩\u200d🚀"]  # fmt: skip
    for i in range(1000):
        size = 100_000 if i % 50 == 0 else chance.choice([10, 100, 3000])
        few = chance.sample(pieces, chance.choice([1, 2, 5, len(pieces)]))
        text = ""
        while len(text) < size:
            text += chance.choice(few) * (chance.choice([1, 1, 500]) if size == 100_000 else 1)
        began = time.process_time()
        for rewrite in parse_rewrites(text[:size], 4):
            json.dumps([rewrite.strategy, rewrite.prompt]).encode()
            assert 0 < len(rewrite.prompt) <= 2000
        assert time.process_time() - began < 2, text[:80]


@pytest.mark.parametrize(
    "unit", ["[", "{", '{"a":', '["', "{'", "\n", "<think>", "< ", '"', "\\", "[x,", "[/*", "#", 'a" ', "[#\n"]
)
def test_reading_takes_time_in_proportion(unit):
    began = time.process_time()
    parse_rewrites(unit * (100_000 // len(unit)) + GOOD, 4)
    assert time.process_time() - began < 1.5


VARIABLES = [k for house in HOUSES for k in house.keys] + [
    "OPENAI_MODEL",
    "OPENAI_BASE_URL",
    "OLLAMA_HOST",
    "DASHSCOPE_API_BASE",
]


@pytest.fixture
def env(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize(("given", "url", "key", "model"), [
    ({"OPENAI_API_KEY": "o"}, "https://api.openai.com/v1", "o", "gpt-6-luna"),
    ({"OPENAI_API_KEY": "o", "OPENAI_MODEL": "mine", "DASHSCOPE_API_KEY": "d"}, "https://api.openai.com/v1", "o", "mine"),
    ({"DASHSCOPE_API_KEY": "d", "OPENAI_MODEL": "mine"}, "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "d", "qwen3.7-plus"),
    ({"OPENAI_BASE_URL": "https://dashscope.aliyuncs.com/compatible-mode/v1", "OPENAI_API_KEY": "o", "DASHSCOPE_API_KEY": "d"}, "https://dashscope.aliyuncs.com/compatible-mode/v1", "d", "qwen3.7-plus"),
    ({"OPENROUTER_API_KEY": "r"}, "https://openrouter.ai/api/v1", "r", "openrouter/auto"),
    ({"DEEPSEEK_API_KEY": "s"}, "https://api.deepseek.com", "s", "deepseek-flash"),
    ({"GOOGLE_API_KEY": "g", "GEMINI_API_KEY": "e"}, "https://generativelanguage.googleapis.com/v1beta/openai", "e", "gemini-3.8-flash"),
    ({"OPENAI_BASE_URL": "https://llm.example/v1", "OPENAI_API_KEY": "o", "DEEPSEEK_API_KEY": "s", "OPENAI_MODEL": "mine"}, "https://llm.example/v1", "o", "mine"),
    ({"OLLAMA_HOST": "0.0.0.0", "OPENAI_MODEL": "mine"}, "http://127.0.0.1:11434/v1", "", ""),
])  # fmt: skip
def test_the_environment_names_the_endpoint(given, url, key, model, env):
    assert find_place() is None
    for name, value in given.items():
        env(name, value)
    place = find_place()
    assert (place.url, place.key, place.model) == (url, key, model)
    assert find_place(llm_model="asked").model == "asked"


@pytest.mark.parametrize(("host", "url"), [
    ("", "http://127.0.0.1:11434/v1"), (":8000", "http://127.0.0.1:8000/v1"), ("box", "http://box:11434/v1"), ("box:1", "http://box:1/v1"),
    ("http://box", "http://box:80/v1"), ("https://box/", "https://box:443/v1"), ("[::1]:5", "http://[::1]:5/v1"), ("::", "http://127.0.0.1:11434/v1"),
])  # fmt: skip
def test_ollamas_host_is_read_as_ollama_reads_it(host, url):
    assert ollama_url(host or "127.0.0.1") == url


def test_a_local_server_without_a_model_gives_its_first_chat_model(serve, env):
    listed = {"data": [{"id": "text-embedding-x"}, {"id": "qwen"}, {"id": "other"}]}
    server = serve(always(chat(GOOD)), get=body(listed))
    made, note = make_rewriter(llm_base_url=server.url)
    assert note is None and made.name == "qwen at 127.0.0.1" and made.rewrite(request()).rewrites
    env("OLLAMA_HOST", server.url.removesuffix("/v1"))
    assert make_rewriter()[0].model == "qwen"
    empty = serve(always(chat(GOOD)), get=body({"data": []}))
    with pytest.raises(InputError, match="lists no model"):
        make_rewriter("llm", llm_base_url=empty.url)
    env("OLLAMA_HOST", "127.0.0.1:9")
    offline, note = make_rewriter()
    assert not offline.calls_llm and "no LLM answers" in note


@pytest.mark.parametrize(("options", "told"), [
    ({"timeout": 0}, "LLM timeout is 0"), ({"max_tokens": 5}, "LLM max tokens is 5"), ({"effort": "huge"}, "LLM effort is 'huge'"),
    ({"llm_base_url": "localhost:1"}, "base URL"), ({"llm_base_url": "http://"}, "base URL"), ({"llm_base_url": "http://a:b/"}, "base URL"),
    ({"llm_base_url": "http://a b/"}, "base URL"), ({"llm_base_url": "http://a:99999/"}, "base URL"),
])  # fmt: skip
def test_wrong_options_are_named(options, told, env):
    with pytest.raises(InputError, match=told):
        make_rewriter("llm", **options)


@pytest.mark.parametrize("family", [
    "Stable Diffusion 1.x/2.x, SDXL and other UNets", "StableDiffusionXLPipeline", "Stable Diffusion 3, 3.5", "FLUX.1", "FLUX.2 klein",
    "Chroma", "Qwen-Image", "Z-Image", "PixArt-α, PixArt-Σ", "Sana", "AuraFlow", "CogView4", "Lumina 2", "icons",
])  # fmt: skip
def test_the_llm_is_told_how_the_image_model_likes_to_be_spoken_to(family, serve):
    about = asking.family_text(family)
    server = serve(always(chat(GOOD)))
    writer(server).rewrite(request(family=family))
    system = server.bodies[0]["messages"][0]["content"]
    assert len(about) > 100 and about in system and "source" not in about and '"...' not in system


def test_every_paragraph_is_in_the_wheel():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    assert '"families/*.txt"' in project.rsplit('"promptprobe.prompts" =', 1)[1].split("\n", 1)[0]


def test_every_backbone_has_its_paragraph():
    from promptprobe.backbones import BACKBONES

    texts = {row.family: asking.family_text(row.family) for row in BACKBONES.values()}
    assert all(texts.values()) and len(set(texts.values())) == len(texts)


def test_the_llm_is_told_what_was_wrong_and_what_fits(serve):
    from promptprobe.diagnosis import WordDiagnosis

    words = [WordDiagnosis("pair", 2, 6, 0.5, 0.1, False), WordDiagnosis("automobiles", 18, 29, 0.04, 0.1, True)]
    asked = RewriteRequest(
        "a pair of crimson automobiles", -0.5, 0.6, words, [Try("x", 0.2)], 3, 60, length=10, scale=(-2.0, 1.5),
        rejected=[Rejected("two cars", "lost colour red of car")],
    )  # fmt: skip
    server = serve(always(chat(GOOD)))
    writer(server).rewrite(asked)
    said = json.loads(server.bodies[0]["messages"][1]["content"])
    assert said["weak_words"] == [{"word": "automobiles", "focus": 0.04}] and "pair" not in json.dumps(
        said["weak_words"]
    )
    assert (
        said["scale"] == {"lowest": -2.0, "highest": 1.5} and said["tokens_now"] == 10 and 25 <= said["max_words"] <= 30
    )
    assert said["rejected"] == [{"prompt": "two cars", "why": "lost colour red of car"}]
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["rewrites"]
    assert schema["maxItems"] == 3 and "subject first" in schema["items"]["properties"]["strategy"]["enum"]


def test_a_kept_answer_does_not_depend_on_the_time_left(tmp_path):
    class Counting:
        name, calls_llm, count = "counting", True, 0

        def rewrite(self, request):
            self.count += 1
            return RewriteAnswer(parse_rewrites(GOOD, 4), requests=1)

    inner = Counting()
    cached = CachedRewriter(inner, tmp_path)
    assert cached.rewrite(request(deadline=5.0)).rewrites == cached.rewrite(request(deadline=3.0)).rewrites
    assert inner.count == 1


def test_a_request_with_no_time_left_is_not_sent():
    with pytest.raises(TooLate):  # nobody listens there: sent, it would end in Broken
        Endpoint("http://127.0.0.1:9/v1", "k").send("/x", {}, timeout=5, until=time.monotonic() + 0.1)
