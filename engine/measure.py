"""How long prompts are, without the weights of the model that is to read them."""

from mh_batch.engine.model.load import Tell, load_renderer, tell_nobody
from mh_batch.jobs.generation import GenerationRequest

from .fit import Fitted, Fitter
from .generate import fit_request


class PromptMeasurer:
    """Fits the prompts for one model as its generator would."""

    def __init__(self, model: str, tell: Tell = tell_nobody) -> None:
        """Take a model's name; raises `ModelNotLoaded` if there is none that renders.

        `tell` is told what the load is at.
        """
        renderer = load_renderer(model, tell)
        self._fitter = Fitter(renderer.adapter.render)
        self._context_tokens = renderer.context_tokens

    def fit(self, request: GenerationRequest) -> Fitted:
        """Fit a prompt to the context; raises `JobError` if it cannot be done."""
        return fit_request(self._fitter, request, self._context_tokens)
