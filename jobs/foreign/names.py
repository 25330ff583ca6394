"""The names that people bring from other tools: the one list of them."""

from .name import ForeignName as Name

_FORM = "write structured_outputs or response_format"
_TEXTS = "stop takes texts"
_LOGPROBS = "probabilities of tokens are not stored"
_BEAMS = "answers are sampled; n gives several of a prompt"
_CHAT = "prompts are rendered by the model's chat template"
_CALLS = "write tools and tool_choice"
_EFFORT = "write reasoning_effort (gpt-oss), or chat_template_kwargs for what a chat template knows"
_MEDIA = "models read and write text only"
_PENALTIES = "write repetition_penalty, presence_penalty or frequency_penalty"
_FILTERS = "write top_p, top_k, min_p or xtc_probability"

_TAKEN = (
    Name("max_completion_tokens", "OpenAI", "max_tokens"),
    Name("max_output_tokens", "OpenAI (responses)", "max_tokens"),
    Name("max_new_tokens", "SGLang, transformers", "max_tokens"),
    Name("num_predict", "Ollama", "max_tokens"),
    Name("n_predict", "llama.cpp", "max_tokens"),
    Name("num_ctx", "Ollama", "max_context_tokens"),
    Name("repeat_penalty", "Ollama, llama.cpp", "repetition_penalty"),
    Name("repeat_last_n", "Ollama, llama.cpp", "repetition_window"),
    Name("repetition_context_size", "mlx-lm", "repetition_window"),
    Name("stop_sequences", "Anthropic, Gemini", "stop"),
    Name("stop_strings", "transformers", "stop"),
    Name("system_prompt", "many data sets", "system"),
    Name("chat_template_args", "mlx-lm", "chat_template_kwargs"),
    Name("sampling_params", "vLLM, SGLang", nested=True),
    Name("extra_body", "OpenAI's client", nested=True),
    Name("options", "Ollama", nested=True, kinds=("object",)),
)
_KEPT = tuple(
    Name(name, of, kept=True)
    for name, of in (
        *((name, "OpenAI") for name in ("user", "store", "service_tier", "metadata")),
        *((name, "OpenAI") for name in ("safety_identifier", "prompt_cache_key")),
        *(("prompt_cache_retention", "OpenAI"), ("stream_options", "OpenAI")),
        *(("priority", "vLLM"), ("request_id", "vLLM"), ("keep_alive", "Ollama")),
        *(("cache_prompt", "llama.cpp"), ("num_thread", "Ollama"), ("num_gpu", "Ollama")),
    )
)
_FORMS = (
    *(
        Name(f"guided_{kind}", "vLLM (old)", use=f'write structured_outputs={{"{kind}": ...}}')
        for kind in ("json", "regex", "choice", "grammar", "json_object", "whitespace_pattern")
    ),
    Name(
        "guided_decoding_backend",
        "vLLM (old)",
        use="structured_outputs has one backend, llguidance",
    ),
    Name(
        "structural_tag",
        "vLLM, SGLang",
        use="tools with strict and tool_choice say which calls are possible",
    ),
    Name("regex", "SGLang", use='write structured_outputs={"regex": ...}', kinds=("text",)),
    Name("json_schema", "SGLang, llama.cpp", use='write structured_outputs={"json": ...}'),
    Name(
        "ebnf",
        "SGLang",
        use='write structured_outputs={"grammar": ...}, in the notation of Lark',
        kinds=("text",),
    ),
    Name(
        "grammar",
        "llama.cpp",
        use='write structured_outputs={"grammar": ...}, in the notation of Lark',
        neutral=('""',),
        kinds=("text",),
    ),
    Name("format", "Ollama", use=_FORM, kinds=("object", "text"), words=("json",)),
    Name("guided_decoding", "vLLM", use=_FORM, kinds=("object",)),
    Name("response_schema", "Gemini", use=_FORM, kinds=("object",)),
)
_SAMPLING = (
    Name("min_tokens", "vLLM", use="accept has min_chars", neutral=("0",), kinds=("number",)),
    Name("min_new_tokens", "SGLang", use="accept has min_chars", neutral=("0",)),
    Name(
        "min_length", "transformers", use="accept has min_chars", neutral=("0",), kinds=("number",)
    ),
    Name("max_length", "transformers", use="write max_tokens", kinds=("number",)),
    Name("temp", "mlx-lm", use="write temperature", kinds=("number",)),
    Name("num_return_sequences", "transformers", use="write n", neutral=("1",), kinds=("number",)),
    Name("candidate_count", "Gemini", use="write n", neutral=("1",), kinds=("number",)),
    Name("do_sample", "transformers", use="write temperature 0", neutral=("true",)),
    Name("stop_token_ids", "vLLM, SGLang", use=_TEXTS, neutral=("[]",)),
    Name(
        "include_stop_str_in_output", "vLLM", use="answers end before a stop", neutral=("false",)
    ),
    Name("no_stop_trim", "SGLang", use="answers end before a stop", neutral=("false",)),
    Name("ignore_eos", "vLLM, SGLang", use="an answer ends where it ends", neutral=("false",)),
    Name("skip_special_tokens", "vLLM, SGLang", use="answers are texts", neutral=("true",)),
    Name(
        "spaces_between_special_tokens", "vLLM", use="answers are texts", neutral=("true", "false")
    ),
    Name("eos_token_id", "transformers", use=_TEXTS, kinds=("number", "list")),
    Name(
        "bad_words_ids", "transformers", use="logit_bias of -100 bans a token", neutral=("[]",),
        kinds=("list",),
    ),
    Name("bad_words", "vLLM", use="logit_bias of -100 bans a token", neutral=("[]",)),
    Name("allowed_token_ids", "vLLM", use="structured_outputs says what may be written"),
    Name("logits_processors", "vLLM", use="write logit_bias", neutral=("[]",)),
    Name("logprobs", "OpenAI, vLLM", use=_LOGPROBS, neutral=("false",), kinds=("bool", "number")),
    Name("top_logprobs", "OpenAI", use=_LOGPROBS, neutral=("0",), kinds=("number",)),
    Name("prompt_logprobs", "vLLM", use=_LOGPROBS, neutral=("0",), kinds=("number",)),
    Name("return_logprob", "SGLang", use=_LOGPROBS, neutral=("false",)),
    Name("n_probs", "llama.cpp", use=_LOGPROBS, neutral=("0",), kinds=("number",)),
    Name("best_of", "vLLM, OpenAI (old)", use=_BEAMS, neutral=("1",), kinds=("number",)),
    Name("use_beam_search", "vLLM", use=_BEAMS, neutral=("false",)),
    Name("num_beams", "transformers", use=_BEAMS, neutral=("1",)),
    Name("length_penalty", "vLLM, transformers", use=_BEAMS, neutral=("1", "1.0")),
    Name("early_stopping", "transformers", use=_BEAMS, neutral=("false",), kinds=("bool",)),
    Name("no_repeat_ngram_size", "transformers", use=_PENALTIES, neutral=("0",)),
    Name("penalty_alpha", "transformers", use=_PENALTIES, neutral=("0",), kinds=("number",)),
    Name("top_a", "many servers", use=_FILTERS, neutral=("0", "0.0"), kinds=("number",)),
    Name("typical_p", "Ollama, llama.cpp", use=_FILTERS, neutral=("1", "1.0")),
    Name("tfs_z", "Ollama, llama.cpp", use=_FILTERS, neutral=("1", "1.0")),
    Name("mirostat", "Ollama, llama.cpp", use=_FILTERS, neutral=("0",), kinds=("number",)),
    Name("dry_multiplier", "llama.cpp", use=_PENALTIES, neutral=("0", "0.0")),
    Name("dynatemp_range", "llama.cpp", use="write temperature", neutral=("0", "0.0")),
    Name(
        "kv_bits",
        "mlx-lm",
        use="mlx-lm cannot quantise gpt-oss's rotating caches; max_kv_size bounds the memory",
    ),
    Name(
        "verbosity", "OpenAI", use="say it in the prompt", neutral=('"medium"',),
        kinds=("text",), words=("low", "medium", "high"),
    ),
)  # fmt: skip
_PROMPTS = (
    Name("echo", "vLLM, OpenAI (old)", use=_CHAT, neutral=("false",), kinds=("bool",)),
    Name("suffix", "OpenAI (old)", use=_CHAT, neutral=('""',), kinds=("text",)),
    Name("chat_template", "vLLM", use=f"{_CHAT}; chat_template_kwargs are its variables"),
    Name("add_generation_prompt", "vLLM", use=_CHAT, neutral=("true",)),
    Name("continue_final_message", "vLLM", use=_CHAT, neutral=("false",)),
    Name("truncate_prompt_tokens", "vLLM", use="write max_context_tokens or history_tokens"),
    Name("thinking", "Anthropic", use=_EFFORT, kinds=("object",)),
    Name(
        "think", "Ollama", use=_EFFORT, kinds=("bool", "text"), words=("low", "medium", "high")
    ),
    Name("reasoning", "OpenAI (responses)", use=_EFFORT, kinds=("object",)),
    Name("thinking_config", "Gemini", use=_EFFORT, kinds=("object",)),
    Name(
        "enable_thinking", "Qwen", use='write chat_template_kwargs={"enable_thinking": ...}',
        kinds=("bool",),
    ),
    Name("thinking_budget", "Qwen, SGLang", use=_EFFORT, kinds=("number",)),
    Name("system_instruction", "Gemini", use="write system", kinds=("object",)),
    Name("num_keep", "Ollama", use="write history_tokens", neutral=("0",), kinds=("number",)),
    Name("raw", "Ollama", use=_CHAT, neutral=("false",), kinds=("bool",)),
    Name("adapter_path", "mlx-lm", use="write adapter", kinds=("text",)),
    Name("lora_request", "vLLM", use="write adapter", kinds=("object", "list")),
    Name("functions", "OpenAI (old)", use=_CALLS, neutral=("[]",), kinds=("list",)),
    Name(
        "function_call", "OpenAI (old)", use=_CALLS, neutral=('"auto"',),
        kinds=("object", "text"), words=("auto", "none"),
    ),
    Name(
        "parallel_tool_calls", "OpenAI", use="the model decides it", neutral=("true",),
        kinds=("bool",),
    ),
    Name("modalities", "OpenAI", use=_MEDIA, neutral=('["text"]',), kinds=("list",)),
    Name("audio", "OpenAI", use=_MEDIA, kinds=("object",)),
    Name("images", "Ollama", use=_MEDIA, neutral=("[]",), kinds=("list",)),
    Name("prediction", "OpenAI", use="there is nothing for it", kinds=("object",)),
    Name("web_search_options", "OpenAI", use="write tools and tool_results", kinds=("object",)),
    Name("stream", "all", use="answers are stored whole", neutral=("false",), kinds=("bool",)),
)  # fmt: skip

FOREIGN = {n.name: n for n in (*_TAKEN, *_KEPT, *_FORMS, *_SAMPLING, *_PROMPTS)}
"""Every known name of another tool."""

ALIASES = {
    n.name: n.becomes for n in FOREIGN.values() if n.becomes is not None and n.becomes != "system"
}
"""Settings of ours by the names that others have for them."""

NESTED = tuple(n.name for n in FOREIGN.values() if n.nested)
"""Names of objects whose members are read as if they stood outside."""
