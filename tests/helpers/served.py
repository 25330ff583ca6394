"""A server of `mh-batch serve` in a process of its own, and clients of it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from openai import OpenAI

from .command_line import MAIN, environment
from .forks import Forks
from .paths import CORPORA

CHAT: Final = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled", "expired")
LIMIT_SECONDS = 90


class Served:
    """A server that runs: its folder, process, address and what its first line was."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]", ready: str) -> None:
        self.folder = folder
        self.process = process
        self.ready = ready
        self.url = ready.split()[3]
        self.root = self.url.removesuffix("/v1")
        self.port = int(self.root.rpartition(":")[2])

    def client(self, key: str = "none") -> OpenAI:
        """Return OpenAI's client; it tries nothing again, so that each answer is seen."""
        return OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=60)

    def ended(self, batch_id: str) -> Any:
        """Wait for the end of a batch, and return it."""
        client = self.client()
        return wait_for(lambda: client.batches.retrieve(batch_id), lambda b: b.status in ENDED)


@contextmanager
def serving(
    folder: Path,
    *options: str,
    forks: Forks | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Run `mh-batch serve` in a folder on a free port for the block.

    A fork starts at once, but a signal ends it without its own clean end.
    """
    command: tuple[str, ...] = (sys.executable, "-c", MAIN, "serve", "--port", "0", *options)
    whole = {**environment(), **(env or {})}
    if forks is not None:
        command = forks.command(command, folder, whole)
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=whole, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready, (folder / "serve.log").read_text()
        yield Served(folder, process, ready)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        finally:
            process.kill()
            process.communicate(timeout=30)


def wait_for(
    ask: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = LIMIT_SECONDS
) -> Any:
    """Ask until the answer is enough, within a limit; return it."""
    deadline = time.monotonic() + seconds
    while not enough(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer


def body(prompt: str, **settings: object) -> dict[str, object]:
    """Return the body of a request for a short answer."""
    short = {"max_tokens": 16, "max_attempts": 1, **settings}
    return {"model": "demo", "messages": [{"role": "user", "content": prompt}], **short}


def batch_lines(prompts: Iterable[str], **settings: object) -> bytes:
    """Return a batch file as OpenAI's clients write it; the ids are `q1`, `q2`, ..."""
    lines = (
        {"custom_id": f"q{n}", "method": "POST", "url": CHAT, "body": body(prompt, **settings)}
        for n, prompt in enumerate(prompts, start=1)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def mt_bench(count: int) -> list[str]:
    """Return the first questions of MT-Bench."""
    text = (CORPORA / "mt_bench" / "questions.jsonl").read_text("utf-8")
    return [json.loads(line)["turns"][0] for line in text.splitlines()[:count]]


def upload(client: OpenAI, content: bytes, name: str = "questions.jsonl") -> str:
    """Upload a batch file; return its id."""
    return client.files.create(file=(name, content), purpose="batch").id


def create(client: OpenAI, file_id: str, **values: Any) -> Any:
    """Create a batch of an uploaded file."""
    return client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", **values
    )
