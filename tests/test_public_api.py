"""The public names of `import gemcut`, their parameters, and that importing them loads no framework."""

import inspect
import json
import subprocess
import sys

import pytest

import gemcut

PARAMETERS = {
    "Completion": "text token_ids finish_reason usage logprobs timings",
    "DecoderConfig": (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "max_position_embeddings layer_types sliding_window rope_parameters query_pre_attn_scalar rms_norm_eps "
        "hidden_activation tie_word_embeddings scale_embeddings norm_unit_offset post_norms qk_norm "
        "attn_logit_softcapping final_logit_softcapping bos_token_id pad_token_id eos_token_ids model_type"
    ),
    "GemcutError": None,
    "LanguageModel": None,
    "Piece": "text token_ids completion",
    "SamplingOptions": (
        "temperature top_k top_p min_p repetition_penalty presence_penalty frequency_penalty logit_bias seed"
    ),
    "TextModel": None,
    "doctor": "",
    "load": "reference engine dtype threads context adapter",
    "published": "name",
    "show": "reference context",
    "tune": "model data output threads fresh watcher settings",
}
METHODS = {
    "generate": "prompt max_tokens n stop logprobs json_schema regex grammar sampling",
    "stream": "prompt max_tokens stop logprobs json_schema regex grammar sampling",
    "chat": "messages system tools options",
    "chat_stream": "messages system tools options",
    "logits": "token_ids",
    "new_scheduler": "max_running max_waiting cache_bytes",
    "new_sequence": (
        "prompt_ids max_tokens stop logprobs sample_index constraint min_tokens ignore_stop_ids stop_token_ids deadline "
        "sampling"
    ),
    "score": "prompt continuation",
    "close": "",
}
FRAMEWORKS = ["keras", "jax", "torch", "tensorflow"]


def test_names():
    assert gemcut.__all__ == sorted(PARAMETERS)
    assert len(gemcut.__all__) <= 12
    assert set(gemcut.__all__) <= set(dir(gemcut))


@pytest.mark.parametrize("name", [name for name, parameters in PARAMETERS.items() if parameters is not None])
def test_parameters(name):
    assert " ".join(inspect.signature(getattr(gemcut, name)).parameters) == PARAMETERS[name]


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_a_text_model(name):
    parameters = inspect.signature(getattr(gemcut.TextModel, name)).parameters
    assert " ".join(list(parameters)[1:]) == METHODS[name]


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'gemcut' has no attribute 'lode'; its names are Completion"):
        _ = gemcut.lode


@pytest.mark.parametrize(
    "module",
    ["gemcut", "gemcut.config", "gemcut.hub", "gemcut.text", "gemcut.quantize", "gemcut.checkpoint", "gemcut.inspect"],
)
def test_light_modules_import_no_framework(module):
    code = f"import sys, json, {module}; print(json.dumps([name for name in {FRAMEWORKS} if name in sys.modules]))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(child.stdout) == []
