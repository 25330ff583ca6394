"""`mh-batch doctor`: check the machine, the model and the database."""

from typing import Annotated

import typer

from .options import DEFAULT_DB, Db, Model
from .shared import drain_options, leave, read_config


def doctor(
    db: Db = DEFAULT_DB,
    model: Model = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check that everything a drain needs is here and works; say what to do."""
    from mh_batch.worker.doctor.examine import examine, exit_code, print_findings
    from mh_batch.worker.doctor.finding import Site
    from mh_batch.worker.output.files import print_json

    options = drain_options(read_config(), db, model, None)
    site = Site(options.db, options.logs, options.model, options.engine.preload_blas)
    findings = list(examine(site))
    if json:
        print_json(findings)
    else:
        print_findings(findings)
    leave(exit_code(findings))
