"""A model process that plays a script: what cannot be had from a real model on demand.

Started as `python scripted_child.py SCRIPT`; SCRIPT is a JSON list with one entry an attempt:
`"answer"`, `"malformed"`, `"length"`, `"stuck"` (in its analysis), `"die"` (SIGKILL to itself),
`"exit"`, `"garbage"`, `"wait"` (answers only once it is cancelled), `"too_long"`, `"hang"` (in the
prefill, for ever), `"slow"` (a prefill of several chunks), `"die_for_good"` (and at every load of
that model), `"watchdog"` and `"out_of_memory"` (as Metal ends a process), `"stray"` (an answer to
no request), `"mistaken"` (an answer of the wrong kind), `"halves"` (an answer whose second half is
sent only after a cancellation), `"other"` (an answer of other tokens), `"json"` and `"half_json"`
(an object with a `name`, and one that was cut).
Left open beside others, and answered once one that came later is (the last of them first), or when
cancelled: `"waiting"` (not begun), `"reading"` (its prompt), `"decoding"`, `"failing"` (it decodes
and ends in an error); `"finishing"` decodes until another is cancelled. `"fault"` is an error.
It goes on with answers at the end.
`SCRIPT.log` receives what was asked for, one JSON line each.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from helpers.made import begun, cut, generation, malformed, stuck
from mh_batch.jobs.generation import (
    FinishReason,
    Generation,
    GenerationRequest,
    ModelInfo,
    RenderedPrompt,
    SlotLimit,
    StopReason,
)
from mh_batch.jobs.selftest import SelftestVerdict
from mh_batch.worker.model_process import protocol

CHUNK_SECONDS = 0.5
RENDERED = RenderedPrompt((7, 8), "the prompt")
METAL = (
    "libc++abi: terminating due to uncaught exception of type std::runtime_error: [METAL] Command "
    "buffer execution failed: "
)
METAL_FAULTS = {
    "watchdog": "Impacting Interactivity "
    "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)",
    "out_of_memory": "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
}
HELD: dict[str, protocol.Phase] = {
    "waiting": "render",
    "reading": "prefill",
    "decoding": "decode",
    "failing": "decode",
    "finishing": "decode",
}
INFO = ModelInfo("demo", "f00d", "scripted", "script", "cpu", None, {})


class Child:
    """Reads frames from standard input, answers on standard output."""

    def __init__(self, script: Path) -> None:
        self.script = script
        self.model = ""
        self.held: dict[int, tuple[protocol.GenerateFrame, str]] = {}

    def next_entry(self) -> str:
        """Take the first entry off the script, so that a new process goes on after it."""
        entries = json.loads(self.script.read_text())
        self.script.write_text(json.dumps(entries[1:]))
        return entries[0] if entries else "answer"

    def send(self, frame: protocol.ToParent) -> None:
        """Write one frame."""
        sys.stdout.buffer.write(protocol.encode(frame))
        sys.stdout.buffer.flush()

    def receive(self) -> protocol.ToChild:
        """Read one frame; a closed pipe ends the process."""
        header = sys.stdin.buffer.read(protocol.HEADER_BYTES)
        if not header:
            sys.exit(0)
        return protocol.decode_to_child(sys.stdin.buffer.read(protocol.body_length(header)))

    def run(self) -> None:
        """Serve until told to shut down."""
        self.send(protocol.Hello(protocol.PROTOCOL, "0", os.getpid()))
        while not isinstance(frame := self.receive(), protocol.Shutdown):
            if isinstance(frame, protocol.Load):
                self.load(frame)
            elif isinstance(frame, protocol.Prepare):
                self.note("prepare", frame.request)
            elif isinstance(frame, protocol.GenerateFrame):
                self.generate(frame)
            elif isinstance(frame, protocol.Selftest):
                self.selftest(frame)
            elif isinstance(frame, protocol.Cancel) and self.held.pop(frame.id, False):
                self.send(protocol.Generated(frame.id, cancelled()))
                if {entry for _, entry in self.held.values()} == {"finishing"}:
                    self.play_held()

    def load(self, frame: protocol.Load) -> None:
        """Know any model but `missing`; `deadly` kills, `changing` is never twice the same.

        `stuck` is never loaded, and `noisy` only after it has written to the log for a while.
        `shaky` kills the first time, and `watched` has Metal do it. `gpu` is one. `experts`
        runs in more than 4 slots only if that is tested.
        """
        dead = self.script.with_suffix(".dead")
        self.model = frame.model
        if dead.exists() and dead.read_text() == frame.model:
            os.kill(os.getpid(), signal.SIGKILL)
        if frame.model == "stuck":
            signal.pause()
        if frame.model == "watched" and self.first("watched"):
            abort("watchdog")
        if frame.model == "noisy":
            for step in range(4):
                time.sleep(CHUNK_SECONDS)
                print(f"downloading: {step}/4", file=sys.stderr, flush=True)
        if frame.model == "missing":
            self.send(protocol.Failed(frame.id, "ModelNotLoaded", "missing: no such folder"))
        elif frame.model == "deadly" or (frame.model == "shaky" and self.first("shaky")):
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            fingerprint = str(os.getpid()) if frame.model == "changing" else INFO.fingerprint
            info = msgspec.structs.replace(INFO, name=frame.model, fingerprint=fingerprint)
            if frame.model in ("variant", "narrow", "faulty", "experts"):
                info = msgspec.structs.replace(info, fingerprint=frame.model)
            if frame.model == "experts":
                few = SlotLimit(4, "other kernels", unless_tested=True)
                info = msgspec.structs.replace(info, slots=few)
            if frame.model == "cool":
                info = msgspec.structs.replace(
                    info, defaults={"temperature": 0.25, "top_k": 7}, not_used=("top_p: odd",)
                )
            if frame.model == "gpu":
                info = msgspec.structs.replace(info, device="gpu: Scripted")
            self.send(protocol.Loaded(frame.id, info))

    def selftest(self, frame: protocol.Selftest) -> None:
        """Pass, but for the models `variant`, `narrow`, `faulty`, and `fragile`, which dies.

        `experts` passes with 6 slots at most.
        """
        with self.script.with_suffix(".log").open("ab") as log:
            entry = {"kind": "selftest", "parallel": frame.parallel, "model": self.model}
            log.write(msgspec.json.encode(entry) + b"\n")
        if self.model == "fragile" and self.first("fragile"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.model == "narrow":
            self.send(protocol.Failed(frame.id, "EnvironmentFault", "cannot run so"))
            return
        if self.model == "faulty":
            self.send(protocol.Failed(frame.id, "InternalError", "cannot run so", "generate"))
            return
        failed = self.model == "variant" or (self.model == "experts" and frame.parallel > 6)
        verdict = SelftestVerdict(
            passed=not failed,
            failed="row 2 differs" if failed else None,
            layer=3 if failed else None,
        )
        self.send(protocol.Progress(frame.id, 1, "decode"))
        self.send(protocol.Selftested(frame.id, verdict))

    def first(self, what: str) -> bool:
        """Whether no process of this script did `what` before."""
        mark = self.script.with_suffix(f".{what}")
        known = mark.exists()
        mark.touch()
        return not known

    def note(self, kind: str, request: GenerationRequest) -> None:
        """Write down what was asked for."""
        with self.script.with_suffix(".log").open("ab") as log:
            log.write(msgspec.json.encode({"kind": kind, "seed": request.seed}) + b"\n")

    def generate(self, frame: protocol.GenerateFrame) -> None:
        """Play the next entry; answer those that were left open if it is answered."""
        self.note("generate", frame.request)
        entry = self.next_entry()
        if entry in HELD:
            self.held[frame.id] = (frame, entry)
            self.send(protocol.Progress(frame.id, 0, HELD[entry]))
            return
        self.play(frame, entry)
        self.play_held()

    def play_held(self) -> None:
        """Answer those that were left open."""
        while self.held:
            _, (frame, entry) = self.held.popitem()
            self.play(frame, "fault" if entry == "failing" else "answer")

    def play(self, frame: protocol.GenerateFrame, entry: str) -> None:
        """Do what an entry says."""
        self.send(protocol.Progress(frame.id, 7))
        if entry == "die":
            sys.stderr.write("last words\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        elif entry == "die_for_good":
            self.script.with_suffix(".dead").write_text(self.model)
            os.kill(os.getpid(), signal.SIGKILL)
        elif entry == "hang":
            self.send(protocol.Progress(frame.id, 0, "prefill"))
            signal.pause()
        elif entry in METAL_FAULTS:
            abort(entry)
        elif entry == "exit":
            sys.exit(5)
        elif entry == "garbage":
            sys.stdout.buffer.write(b"\xff\xff\xff\xff garbage")
            sys.stdout.buffer.flush()
        elif entry == "stray":
            self.send(protocol.Generated(frame.id + 1000, generation()))
        elif entry == "mistaken":
            self.send(protocol.Loaded(frame.id, INFO))
        elif entry == "halves":
            whole = protocol.encode(protocol.Generated(frame.id, generation()))
            sys.stdout.buffer.write(whole[:100])
            sys.stdout.buffer.flush()
            while not isinstance(self.receive(), protocol.Cancel):
                pass  # hints may come meanwhile
            sys.stdout.buffer.write(whole[100:])
            sys.stdout.buffer.flush()
        elif entry == "fault":
            self.send(protocol.Failed(frame.id, "InternalError", "injected", "generate"))
        elif entry == "too_long":
            self.send(protocol.Failed(frame.id, "PromptTooLong", "9 tokens do not fit into 5"))
        elif entry == "wait":
            while not isinstance(self.receive(), protocol.Cancel):
                pass  # hints may come meanwhile
            self.send(protocol.Generated(frame.id, cancelled()))
        else:
            if entry == "slow":
                entry = "answer"
                for _ in range(4):
                    self.send(protocol.Progress(frame.id, 0, "prefill"))
                    time.sleep(CHUNK_SECONDS)
            kinds: dict[str, Callable[[], Generation]] = {
                "answer": generation,
                "other": other,
                "malformed": malformed,
                "length": cut,
                "stuck": stuck,
                "json": partial(generation, '{"name": "Ada"}'),
                "half_json": half_json,
            }
            made = kinds[entry]()
            timings = msgspec.structs.replace(made.timings, parallel=frame.request.parallel)
            made = msgspec.structs.replace(made, timings=timings)
            if entry == "stuck":
                # the context holds no more, so nothing goes on from here
                made = msgspec.structs.replace(made, room=0)
            if frame.request.forced_final:
                made = msgspec.structs.replace(made, response_prefill=frame.request.forced_final)
            if frame.request.continues is not None:
                made = begun(made, *frame.request.continues.tokens)
            if frame.request.render:
                made = msgspec.structs.replace(made, rendered=RENDERED)
            self.send(protocol.Generated(frame.id, made))


def abort(fault: str) -> None:
    """End as MLX does when Metal says that a command buffer failed."""
    sys.stderr.write(f"{METAL}{METAL_FAULTS[fault]}\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGABRT)


def half_json() -> Generation:
    """An answer in JSON that was cut; the context holds no more."""
    cut_off = generation('{"na', problems=("truncated",), stop=StopReason.MAX_TOKENS)
    return msgspec.structs.replace(cut_off, room=0)


def other() -> Generation:
    """An answer of other tokens."""
    return msgspec.structs.replace(generation(), tokens=(4, 5, 6))


def cancelled() -> Generation:
    """What a cancelled attempt comes back as."""
    return msgspec.structs.replace(
        generation(), finish_reason=FinishReason.CANCELLED, stop_reason=StopReason.CANCELLED
    )


if __name__ == "__main__":
    Child(Path(sys.argv[1])).run()
