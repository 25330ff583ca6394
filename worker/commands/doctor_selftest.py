"""`mh-batch doctor` and `selftest`: whether this machine and the model work as they should."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mh_batch.jobs.settings import MOST_PARALLEL

from .options import DEFAULT_DB, Adapter, Db, Model
from .shared import drain_options, leave, read_config, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mh_batch.worker.options import DrainOptions
    from mh_batch.worker.selftest import Found

USUAL = 8


def doctor(
    db: Db = DEFAULT_DB,
    model: Model = None,
    adapter: Adapter = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check that everything a drain needs is here and works.

    What is not comes with what to do about it.
    """
    from mh_batch.worker.doctor.examine import examine, exit_code, print_findings
    from mh_batch.worker.doctor.finding import Site
    from mh_batch.worker.output.files import print_json

    options = drain_options(read_config(), db, model, {"adapter": adapter})
    site = Site(options.db, options.logs, options.model, options.engine.preload_blas)
    findings = list(examine(site))
    if json:
        print_json(findings)
    else:
        print_findings(findings)
    leave(exit_code(findings))


def selftest(
    db: Db = DEFAULT_DB,
    model: Model = None,
    adapter: Adapter = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel",
            "-p",
            min=2,
            max=MOST_PARALLEL,
            help=f"Check this many conversations at once [default: {USUAL}].",
        ),
    ] = None,
) -> None:
    """Check that answers do not depend on what runs beside them.

    And find the fastest --parallel.
    """
    import anyio
    from msgspec.structs import replace

    from mh_batch.jobs.errors import NoModel
    from mh_batch.jobs.files import make_folder
    from mh_batch.worker.selftest import run_selftest
    from mh_batch.worker.text.escape import escape_controls

    options = drain_options(read_config(), db, model, {"adapter": adapter})
    if (name := options.model) is None:
        raise NoModel("which model? Name one with --model, MH_BATCH_MODEL or mh-batch.toml")
    configured = options.parallel if options.parallel > 1 else USUAL
    options = replace(options, parallel=parallel or configured)
    make_folder(options.logs)
    found = anyio.run(partial(run_selftest, options, name, say))
    _record(options, found)
    for line in table(found, options.parallel):
        typer.echo(escape_controls(line))
    leave(0 if found.verdict.passed else 1)


def table(found: "Found", parallel: int) -> "Iterator[str]":
    """Yield the lines that tell what was found."""
    verdict = found.verdict
    yield f"{found.info.name} in {parallel} slots on {found.info.device}"
    for number, name in enumerate(found.checked, start=1):
        failed = not verdict.passed and number == len(found.checked)
        yield f"  {'FAILED' if failed else 'ok':<6}  {name}"
    if verdict.speeds:
        yield "slots    tokens/s    memory"
    for slots, speed in verdict.speeds.items():
        mark = "  <- recommended" if slots == verdict.recommended else ""
        yield f"{slots:>5}  {speed:>10.1f}  {found.memory[slots] / 2**20:>6.0f} MiB{mark}"
    if not verdict.passed:
        yield f"failed: {verdict.what_failed}"
        yield "`mh-batch work` refuses --parallel above 1 here, unless --allow-variance is given"
    elif verdict.recommended is not None:
        best = verdict.recommended
        later = "" if best in (1, parallel) else ", which tests that number when it begins"
        yield f"passed; the fastest is `mh-batch work --parallel {best}`{later}"


def _record(options: "DrainOptions", found: "Found") -> None:
    """Keep the verdict in the database, which is made if needed."""
    from contextlib import closing

    from mh_batch.store.connection import open_store
    from mh_batch.store.selftests import record_selftest
    from mh_batch.worker.slots_key import selftest_key

    key = selftest_key(found.info, options.parallel)
    with closing(open_store(options.db)) as store:
        record_selftest(store, key, found.info.name, found.verdict)
