"""The images endpoint by OpenAI's client, and as chat systems ask it."""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image
from promptprobe.agents import Service
from promptprobe.agents.kept_files import KeptFiles
from serving import ENVIRONMENT, PROMPT, answer, free_port, picture, running, served

# What Open WebUI (routers/images.py: image_generations) and LibreChat (OpenAIImageTools.js, DALLE3.js) send by default, and
# where they look for the picture.
CHAT_SYSTEMS = {
    "Open WebUI": ({"model": "dall-e-2", "n": 1, "size": "512x512", "response_format": "b64_json"}, "b64_json", (512, 512)),
    "Open WebUI, gpt-image": ({"model": "gpt-image-1", "n": 1, "size": "auto"}, "b64_json", (256, 256)),
    "LibreChat": ({"model": "gpt-image-1", "n": 1, "background": "auto", "output_format": "png", "quality": "auto",
                   "size": "1536x1024"}, "b64_json", (1536, 1024)),
    "LibreChat, DALL-E": ({"model": "dall-e-3", "n": 1, "quality": "standard", "style": "vivid", "size": "1024x1024"}, "url",
                          (1024, 1024)),
}  # fmt: skip
REFUSED = (
    ({"prompt": " "}, "the prompt is empty", "prompt"), ({"size": "9x9"}, "size is 9x9", "size"), ({"n": 11}, "n is 11", "n"),
    ({"extra_body": {"budget": 0.5}}, "budget is 0.5; it must be at least 1", "budget"),
    ({"extra_body": {"sise": 1}}, "Unknown parameter: 'sise'", "sise"), ({"background": "transparent"}, "background is", "background"),
    ({"output_compression": 50}, "output_compression is 50 beside output_format png", "output_compression"),
    ({"output_format": "gif"}, "output_format is 'gif'", "output_format"), ({"partial_images": 1}, "without stream", "partial_images"),
)  # fmt: skip


def test_openai_images_client_gets_the_optimised_image():
    from openai import BadRequestError, NotFoundError, OpenAI

    port = free_port()
    with running(
        "serve",
        "--rewriter",
        "offline",
        "--tau",
        "99",
        "--rounds",
        "1",
        "--candidates",
        "2",
        "--steps",
        "15",
        port=port,
    ):
        client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        made = client.images.generate(
            model="icons", prompt="a trio of cobalt felines on a cream backdrop", size="256x256"
        )
        picture(base64.b64decode(made.data[0].b64_json))
        assert "blue cats" in made.data[0].revised_prompt
        searched = client.images.generate(model="icons", prompt=PROMPT, n=2, extra_body={"budget": 1.5, "seed": 3})
        assert [d.revised_prompt for d in searched.data] == [PROMPT] * 2
        assert len({d.model_extra["promptprobe"]["seed"] for d in searched.data}) == 2
        webp = client.images.generate(prompt=PROMPT, output_format="webp", output_compression=50, quality="low")
        assert base64.b64decode(webp.data[0].b64_json)[8:12] == b"WEBP" and webp.output_format == "webp"
        events = list(client.images.generate(prompt=PROMPT, stream=True, partial_images=2))
        assert [e.type.partition(".")[2] for e in events] == ["partial_image", "partial_image", "completed"]
        assert [e.partial_image_index for e in events[:2]] == [0, 1] and len({e.b64_json for e in events}) == 3
        for event in events:
            picture(base64.b64decode(event.b64_json))
        assert client.models.list().data[0].id == "icons" == client.models.retrieve("icons").id
        for name, (given, where, size) in CHAT_SYSTEMS.items():
            status, body = answer(port, "/v1/images/generations", {"prompt": PROMPT, **given})
            assert status == 200 and ({"b64_json", "url"} & set(body["data"][0])) == {where}, (name, body)
            data = body["data"][0][where]
            image = Image.open(
                io.BytesIO(base64.b64decode(data) if where == "b64_json" else urllib.request.urlopen(data).read())
            )
            assert image.size == size and body["size"] == f"{size[0]}x{size[1]}", name
            notes = body["data"][0]["promptprobe"]["notes"]
            assert any("made at 256x256" in note for note in notes) == (size != (256, 256)), notes
        for wrong, message, parameter in REFUSED:
            with pytest.raises(BadRequestError, match=message) as raised:
                client.images.generate(**{"prompt": PROMPT, **wrong})
            assert raised.value.param == parameter
        with pytest.raises(NotFoundError, match="/v1/images/edits is not served"):
            client.images.edit(image=b"x", prompt="a")
        for status, headers in ((403, {"origin": "http://evil.example"}), (403, {"origin": "null"}),
                                (421, {"host": "evil.example"}), (415, {"content-type": "text/plain"}),
                                (400, {"origin": f"http://127.0.0.1:{port}"})):  # fmt: skip
            got, body = answer(port, "/v1/images/generations", {}, **headers)
            assert got == status and body["error"]["type"] == "invalid_request_error", (headers, body)
        # A second server on the same port says so at once.
        second = subprocess.run(
            [sys.executable, "-m", "promptprobe", "serve", "--port", str(port)], env=ENVIRONMENT, capture_output=True,
            text=True,
        )  # fmt: skip
        assert second.returncode == 2 and f"port {port} of 127.0.0.1 can't be used" in second.stderr


class Broken(Service):
    """Fails in every call."""

    def optimize(self, *args, **how):
        raise RuntimeError("out of luck")


def test_what_can_not_be_said_or_made_is_refused_before_any_work():
    with served(Service(rewriter="offline")) as port:
        for wrong, message in (
            ({"\ud800": 1}, "Unknown parameter"), ({"negative_prompt": "\ud800"}, "negative_prompt has half of a surrogate pair"),
            ({"negative_prompt": "x" * 10_001}, "negative_prompt has 10001 characters"),
            ({"seed": 2**63 - 1, "n": 2}, "seed is 9223372036854775807; it must be between"),
        ):  # fmt: skip
            status, body = answer(port, "/v1/images/generations", {"prompt": PROMPT, **wrong})
            assert status == 400 and body["error"]["message"].startswith(message)
        client = http.client.HTTPConnection("127.0.0.1", port)
        client.request("GET", "/v1/images/generations")
        assert client.getresponse().headers["allow"] == "POST"


def test_a_stream_that_fails_says_so_and_the_log_says_why(caplog):
    with served(Broken(rewriter="offline")) as port:
        client = http.client.HTTPConnection("127.0.0.1", port)
        body = json.dumps({"prompt": PROMPT, "stream": True})
        client.request("POST", "/v1/images/generations", body, {"content-type": "application/json"})
        assert b"the server failed" in client.getresponse().read()
    assert "RuntimeError: out of luck" in caplog.text


def test_an_image_whose_file_is_gone_is_not_there_and_the_next_one_is():
    kept = KeptFiles()
    first = kept.keep(b"first", "png")
    shutil.rmtree(kept.find(first).parent)
    assert kept.find(first) is None and kept.find(kept.keep(b"next", "png")).read_bytes() == b"next"


def test_a_refusal_reaches_clients_that_send_all_before_they_read():
    with served(Service(rewriter="offline")) as port:
        for path, kind, status in (
            ("/v1/images/edits", "multipart/form-data", 404), ("/v1/images/generations", "text/plain", 415),
            ("/v1/images/generations", "application/json", 413),
        ):  # fmt: skip
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 3000000\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(head.encode())
                for _ in range(3):
                    time.sleep(0.05)
                    client.sendall(b"x" * 1_000_000)
                assert client.recv(4000).startswith(f"HTTP/1.1 {status}".encode())
