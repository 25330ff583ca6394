"""The real model process, but for one function that fails at prompts which hold `BAD`.

Started as `python faulty_child.py STAGE`; STAGE is `render`, `generate` or `parse`. With `all` a
generation fails whatever the prompt is.
"""

import sys
from typing import Any

from mh_batch.engine import generate
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.jobs.generation import Generation, GenerationRequest
from mh_batch.worker.model_process.child import server

BAD = "This one goes wrong."


def fail_at(stage: str) -> None:
    """Have the function of `stage` raise where the request holds `BAD`."""
    running: list[bool] = []
    original = generate.Generator.generate

    def run(self: Any, request: GenerationRequest, *rest: Any) -> Generation:
        running[:] = [stage == "all" or BAD in str(request.prompt.messages)]
        return original(self, request, *rest)

    generate.Generator.generate = run  # type: ignore[assignment, method-assign]
    owner: Any = HarmonyAdapter if stage in ("render", "parse") else generate
    name = stage if stage in ("render", "parse") else "decode"
    inner = getattr(owner, name)

    def failing(*args: Any, **keywords: Any) -> Any:
        # a prompt is rendered ahead too, while another one runs
        if BAD in str(args) if stage == "render" else running == [True]:
            raise RuntimeError("injected")
        return inner(*args, **keywords)

    setattr(owner, name, failing)


if __name__ == "__main__":
    fail_at(sys.argv[1])
    server.main()
