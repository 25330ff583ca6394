"""The length of prompts, without the weights of the model that is to read them."""

from mh_batch.engine.model.load import ReportStep, ignore_step, load_renderer
from mh_batch.jobs.generation import GenerationRequest

from .fit.fitter import Fitted, Fitter, fit_request


class PromptMeasurer:
    """Fits prompts for one model as its generator would."""

    def __init__(self, model: str, report: ReportStep = ignore_step) -> None:
        """Take a model's name; raises `ModelNotLoaded` if its format does not load.

        Each step of the load is passed to `report` as it begins.
        """
        renderer = load_renderer(model, report)
        self._fitter = Fitter(renderer.adapter.render)
        self._context_tokens = renderer.context_tokens

    def fit(self, request: GenerationRequest) -> Fitted:
        """Fit a prompt to the context; raises `JobError` if it cannot be done."""
        return fit_request(self._fitter, request, self._context_tokens)
