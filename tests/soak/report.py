"""What a soak saw, as text that can be pasted."""

from collections import Counter
from collections.abc import Sequence

from .night import Kills, Night
from .plan import PHASES

WHO = ("worker", "model", "both", "submitter")


def report(kills: Kills, night: Night, reference: Night, found: Sequence[str]) -> str:
    """Return the report: what was done to the night, and how it compares."""
    by_phase = Counter(night.struck)
    starts = Counter(night.starts)
    totals = {
        "seed": kills.seed,
        "kills": len(night.struck),
        "processes started": ", ".join(f"{starts[who]} {who}" for who in WHO if starts[who]),
        "jobs": len(night.content["jobs"]),
        "turns compared": len(reference.content["turns"]),
        "attempts compared": len(reference.content["attempts"]),
        "channels compared": len(reference.content["channels"]),
        "artifacts compared": len(reference.content["artifacts"]),
        "generations begun": f"{night.asked} (uninterrupted: {reference.asked})",
        "differences": len(found),
        "faults": len(night.faults),
        "wall time": f"{night.seconds:.0f} s (uninterrupted: {reference.seconds:.0f} s)",
    }
    lines = [f"{name:<20}{value}" for name, value in totals.items()]
    lines += ["", f"{'kills at':<20}" + "".join(f"{who:>11}" for who in WHO) + f"{'all':>7}"]
    for phase in PHASES:
        counts = [by_phase[phase, who] for who in WHO]
        cells = "".join(f"{count or '':>11}" for count in counts)
        lines.append(f"{phase:<20}{cells}{sum(counts):>7}")
    lines += [*(f"fault: {fault}" for fault in night.faults[:20])]
    lines += [f"difference: {line}" for line in found[:20]]
    return "\n".join(lines)
