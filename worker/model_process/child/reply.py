"""The answer to a request, also where it cannot be done."""

import traceback
from collections.abc import Callable

from mh_batch.jobs.errors import (
    EnvironmentFault,
    InternalError,
    JobError,
    Stage,
    describe_error,
)
from mh_batch.worker.model_process.metal import is_command_buffer_fault
from mh_batch.worker.model_process.protocol import (
    BadFrame,
    Failed,
    GenerateFrame,
    Load,
    ToParent,
    encode,
)

from .inbox import Request


def encoded_reply(
    request: Request, answer: Callable[[], ToParent], stage: Callable[[], Stage]
) -> bytes:
    """Return the encoded `answer()` to a request, or `Failed` if that raises an error.

    `stage` tells where the request was then. Errors that end the process are raised.
    """
    try:
        return encode(answer())
    except BadFrame as error:
        # an answer too long to send concerns its job only: the next one may be short
        kind = JobError if isinstance(request, GenerateFrame) else EnvironmentFault
        return encode(Failed(request.id, kind.__name__, str(error)))
    except InternalError as error:
        return encode(Failed(request.id, InternalError.__name__, str(error), error.stage))
    except (JobError, EnvironmentFault) as error:
        return encode(Failed(request.id, type(error).__name__, str(error)))
    except BrokenPipeError:
        raise
    except Exception as error:
        # a model that does not load is no fault of a job, and neither is a failed GPU (which
        # usually aborts the process): end, so that the worker sees why
        if isinstance(request, Load) or is_command_buffer_fault(str(error)):
            raise
        traceback.print_exc()
        return encode(Failed(request.id, InternalError.__name__, describe_error(error), stage()))
