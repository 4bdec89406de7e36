"""A batch against a plain loop of `optimize`, with an LLM endpoint that takes a second for each answer, in one run.

    python benchmarks/batch_throughput.py prompts.txt --prompts 40

The endpoint listens on loopback and answers with the offline rewriter's wordings, so that both ways do the same work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from promptprobe.agents.batch import run_batch
from promptprobe.agents.offline import OfflineRewriter
from promptprobe.agents.optimize import optimize
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewriter import ChatRewriter
from promptprobe.agents.rewrites import RewriteRequest, Try
from rich.console import Console
from rich.table import Table

from promptprobe.prompt_files import read_prompts
from promptprobe.worlds import DEFAULT, thesaurus_of


def endpoint(delay: float) -> tuple[ThreadingHTTPServer, str]:
    """A chat-completions server on loopback that waits `delay` seconds before each answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = json.loads(body["messages"][1]["content"])
            tried = [Try(t["prompt"], 0.0) for t in said["best"] + said["worst"]]
            request = RewriteRequest(said["prompt"], 0.0, 1.0, [], tried, said["count"], said["max_tokens"])
            rewrites = [vars(r) for r in OfflineRewriter(thesaurus_of(DEFAULT)).rewrite(request).rewrites]
            time.sleep(delay)
            message = {"role": "assistant", "content": json.dumps({"rewrites": rewrites})}
            reply = json.dumps(
                {
                    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600},
                }
            ).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}/v1"


def main() -> None:
    """Time both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts_file", type=Path)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--llm-calls", type=int, default=8)
    args = parser.parse_args()
    prompts = read_prompts(args.prompts_file).prompts[: args.prompts]
    server, url = endpoint(args.delay)
    plan = make_plan(rewriter=ChatRewriter(model="m", base_url=url, api_key="none"), rounds=3, tau="q0.9")
    optimize(prompts[0], plan=plan)  # warm up
    began = time.perf_counter()
    plain = {p: optimize(p, plan=plan).best_prompt for p in prompts}
    loop_seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        summary = run_batch(plan, prompts, Path(out), llm_calls=args.llm_calls)
        batch_seconds = time.perf_counter() - began
        lines = [json.loads(x) for x in (Path(out) / "results.jsonl").read_text("utf-8").splitlines()]
    server.shutdown()
    same = sum(plain[line["prompt"]] == line["best_prompt"] for line in lines)
    table = Table("way", "seconds", "prompts/min", "LLM requests")
    for name, seconds in (("loop of optimize", loop_seconds), ("batch", batch_seconds)):
        table.add_row(name, f"{seconds:.1f}", f"{60 * len(prompts) / seconds:.1f}", str(summary["LLM requests"]))
    Console().print(
        table, f"{loop_seconds / batch_seconds:.2f}x faster; {same} of {len(prompts)} with the same best prompt"
    )


if __name__ == "__main__":
    main()
