"""`mh-batch bench`: measure the engine and the worker."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Adapter
from .shared import model_name, say


def bench(
    model: Annotated[
        str, typer.Option("--model", help="demo, random, a local folder, or a hub name.")
    ] = "demo",
    adapter: Adapter = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME,...",
            help="Only these of drain, artifacts, submit, queue, decode, larger, prefill, "
            "position, memory, loops, penalties, prefix, forms, slots.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of the comparisons.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes: seconds per scenario.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also print the top 20 of a profile of the engine.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw it as PNG (needs mh-batch[plot]).")
    ] = None,
    note: Annotated[
        Path | None, typer.Option("--note", help="Write the ratios here as Markdown.")
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="The --json file of an earlier run: print what changed."),
    ] = None,
) -> None:
    """Measure the engine and the worker beside plain references."""
    from rich.console import Console

    from mh_batch.worker.bench.report.outputs import Outputs
    from mh_batch.worker.bench.run import BenchRequest
    from mh_batch.worker.bench.run import run as run_bench

    outputs = Outputs(json=json, plot=plot, note=note, compare=compare)
    request = BenchRequest(
        model_name(model, adapter) or model, rounds, quick, tuple(only or ()), profile, outputs
    )
    run_bench(request, say, Console())
