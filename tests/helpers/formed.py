"""Harmony with a form, by a grammar that is small enough to be read at a glance."""

import json
from typing import Any

from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mh_batch.engine.constraint.tables import tables_of_hugging_face
from mh_batch.engine.model.load import LoadedModel
from mh_batch.jobs.forms import Form
from mh_batch.jobs.generation import Prompt

SPACE = r"( |\n[ \t]{0,8})?"
STRUCTURE = r"""
start: (thought <|end|> <|start|> "assistant")* last
thought: <|channel|> ("analysis" | "commentary") <|message|> FREE
last: <|channel|> "final" (" "? <|constrain|> "json")? <|message|> @body
FREE: /(.|\n)*/
"""


def whole_grammar(form: Form) -> str:
    """The grammar of a completion: any reasoning, then the form in the final message."""
    if form.kind == "json_schema":
        options: Any = {"whitespace_flexible": True, "whitespace_pattern": SPACE}
        made = LLMatcher.grammar_from_json_schema(form.value, overrides=options)
        body = json.loads(made)["grammars"][0]
    elif form.kind == "regex":
        body = {"lark_grammar": f"start: ANSWER\nANSWER: /{form.value}/"}
    else:
        assert form.kind == "grammar"
        body = {"lark_grammar": form.value}
    return json.dumps({"grammars": [{"lark_grammar": STRUCTURE}, {**body, "name": "body"}]})


class FormedAdapter:
    """The model's adapter with these grammars."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def grammar(self, prompt: Prompt) -> str | None:
        """The grammar of the prompt's form."""
        return None if prompt.form is None else whole_grammar(prompt.form)


def formed(loaded: LoadedModel) -> LoadedModel:
    """The model, answering in forms."""
    return loaded._replace(adapter=FormedAdapter(loaded.adapter))


def tables_of_one_letter() -> LLTokenizer:
    """The tables of a tokeniser that knows `a` and its end token 1, and no other byte."""
    plain = Tokenizer(models.BPE({"a": 0, "<end>": 1}, []))
    plain.add_special_tokens(["<end>"])
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>")
    return tables_of_hugging_face(tokenizer, [1])
