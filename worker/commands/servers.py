"""`mh-batch serve` and `mh-batch explore`: the servers, for clients and for people."""

from typing import Annotated

import typer

from . import options as opt
from .shared import drain_options, read_config, settings_of


def serve(
    db: opt.Db = opt.DEFAULT_DB,
    model: opt.Model = None,
    adapter: opt.Adapter = None,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; any but loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")
    ] = 8000,
    parallel: opt.Parallel = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Start none: one runs elsewhere, or later.")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar="MH_BATCH_API_KEY",
            help="What clients must send as key; the variable shows in no list of processes.",
        ),
    ] = None,
    profile: opt.Profile = None,
    max_queued: Annotated[
        int,
        typer.Option("--max-queued", min=1, help="With how many queued jobs to take no batch."),
    ] = 1_000_000,
) -> None:
    """Answer OpenAI's clients: files and batches over the queue.

    A worker runs beside it. Ctrl-C ends both; what is queued stays.
    """
    import anyio

    from mh_batch.worker.model_choice import default_model
    from mh_batch.worker.runtime.extras import require_server
    from mh_batch.worker.submission.source import give_large_blocks_back

    require_server()
    from mh_batch.worker.server.run import check_options
    from mh_batch.worker.server.run import serve as run_server
    from mh_batch.worker.server.state import ServerOptions

    config = read_config()
    settings, names = settings_of(config, profile, None, None)
    options = ServerOptions(
        db=db,
        host=host,
        port=port,
        model=default_model(config, model, adapter),
        api_key=api_key,
        settings=settings,
        given=names,
        max_line_mib=config.max_line_mib,
        max_queued=max_queued,
    )
    check_options(options)
    given = {"adapter": adapter, "parallel": parallel, "watch": True}
    drain = None if no_worker else drain_options(config, db, model, given)
    give_large_blocks_back()
    anyio.run(run_server, options, drain)


def explore(
    db: opt.Db = opt.DEFAULT_DB,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes any free port.")
    ] = 8001,
) -> None:
    """Browse the database with datasette, read-only.

    With the cookbook; Ctrl-C ends it.
    """
    from mh_batch.worker.output.explore.start import explore

    explore(db, port)
