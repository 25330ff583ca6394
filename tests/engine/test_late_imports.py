"""What a model process imports only where a job needs it."""

import subprocess
import sys
from pathlib import Path

from helpers.forks import Forks

CODE = """
import sys
import mh_batch.worker.model_process.child.server
from mh_batch.engine.generate import Generator
from mh_batch.engine.model.load import load
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import GenerationRequest, Prompt
from mh_batch.jobs.settings import Context, Sampling

generator = Generator(load("demo"))
for form in (None, Form("choice", ("yes", "no"))):
    prompt = Prompt((Message("user", "17 + 25?"),), "2025-06-30", form=form)
    request = GenerationRequest(prompt, Sampling(max_tokens=2), Context(), 1)
    generator.prepare(request)
    tokens = generator.generate(request, lambda: False, lambda _: None).tokens
    print(len(tokens), "llguidance" in sys.modules)
"""


def test_a_process_without_a_form_never_imports_what_keeps_them(
    tmp_path: Path, forks: Forks
) -> None:
    command = forks.command([sys.executable, "-c", CODE], tmp_path)
    done = subprocess.run(
        command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["2 False", "2 True"]
