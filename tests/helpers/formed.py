"""Harmony's grammar of a form, and tables that no form can be kept with."""

from llguidance import LLTokenizer
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mh_batch.engine.constraint.tables import tables_of_hugging_face
from mh_batch.engine.harmony.adapter import HarmonyAdapter
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Prompt


def whole_grammar(form: Form) -> str:
    """The grammar of a completion: any reasoning, then the form in the final message."""
    prompt = Prompt((Message("user", "Hi"),), "2025-06-30", form=form)
    made = HarmonyAdapter().grammar(prompt)
    assert made is not None
    return made


def tables_of_one_letter() -> LLTokenizer:
    """The tables of a tokeniser that knows `a` and its end token 1, and no other byte."""
    plain = Tokenizer(models.BPE({"a": 0, "<end>": 1}, []))
    plain.add_special_tokens(["<end>"])
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>")
    return tables_of_hugging_face(tokenizer, [1])
