"""Programs that models are converted for: the format each takes, and the files it wants besides the model."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable
from typing import TYPE_CHECKING

from gemcut.errors import UsageError
from gemcut.text import stop_token_ids

if TYPE_CHECKING:
    from gemcut.checkpoint.checkpoint import Checkpoint
    from gemcut.text import Tokenizer

GGUF_FILE = "model.gguf"  # its name in a folder that is made for a consumer
_SERVER_CONTEXT = 8192  # tokens; a server that reserves a cache for 131,072 rarely starts

# Prompt formats in Ollama's template language, which has messages and system text apart.
_GEMMA_TURNS = """{{ range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}
{{ .Content }}<end_of_turn>
{{ end }}<start_of_turn>model
"""
_LLAMA_TURNS = """[INST] {{ if .System }}<<SYS>>
{{ .System }}
<</SYS>>

{{ end }}{{ .Prompt }} [/INST] {{ .Response }}"""
_MISTRAL_TURNS = "[INST] {{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }} [/INST]{{ .Response }}"
_OLLAMA_TEMPLATES = {"llama": _LLAMA_TURNS, "mistral": _MISTRAL_TURNS}
_AUTOMODEL_DATASET = (
    "nemo_automodel.components.datasets.llm.column_mapped_text_instruction_dataset.ColumnMappedTextInstructionDataset"
)
_AUTOMODEL_RECIPE = string.Template("""\
# Fine-tune the model in this folder on train.jsonl, lines of {"prompt": ..., "completion": ...}.
# Run here: automodel automodel_recipe.yaml
recipe: TrainFinetuneRecipeForNextTokenPrediction
seed: 1

model:
  _target_: nemo_automodel.NeMoAutoModelForCausalLM.from_pretrained
  pretrained_model_name_or_path: .
  torch_dtype: bf16
  attn_implementation: $attention

dataset:
  _target_: $dataset
  path_or_dataset_id: train.jsonl
  column_mapping:
    question: prompt
    answer: completion
  answer_only_loss_mask: true
  use_hf_chat_template: $has_turns

dataloader:
  _target_: torchdata.stateful_dataloader.StatefulDataLoader
  collate_fn: nemo_automodel.components.datasets.utils.default_collater
  shuffle: true

step_scheduler:
  global_batch_size: 16
  local_batch_size: 1
  num_epochs: 1
  ckpt_every_steps: 100

optimizer:
  _target_: torch.optim.AdamW
  lr: 1.0e-5
  betas: [0.9, 0.95]
  weight_decay: 0.0

loss_fn:
  _target_: nemo_automodel.components.loss.masked_ce.MaskedCrossEntropy

distributed:
  strategy: fsdp2
  tp_size: 1
  cp_size: 1

dist_env:
  backend: nccl
  timeout_minutes: 10

checkpoint:
  enabled: true
  checkpoint_dir: checkpoints
  model_save_format: safetensors
  save_consolidated: true
""")
_OLLAMA_PARAMETERS = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}


@dataclasses.dataclass(frozen=True)
class Consumer:
    """One program.

    Attributes:
        name: What users call it.
        to: The format it takes.
        advice: How to use the result; {target} is its path.
        side_files: Makes name and text of each file besides the model.
        is_folder: Whether a GGUF file lies in a folder with these.
    """

    name: str
    to: str
    advice: str
    side_files: Callable[[Checkpoint, Tokenizer | None], dict[str, str]] = lambda checkpoint, tokenizer: {}
    is_folder: bool = False


def consumer_named(name: str) -> Consumer:
    """The program called `name`.

    Raises:
        UsageError: no such program is known.
    """
    if name not in CONSUMERS:
        raise UsageError(f"for_consumer is {name!r}, expected one of {', '.join(CONSUMERS)}.")
    return CONSUMERS[name]


def _modelfile(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> dict[str, str]:
    """Ollama's description of a model: file, prompt format, sampling.

    Source: Ollama's documentation of the Modelfile.
    """
    lines = [f"FROM ./{GGUF_FILE}"]
    if tokenizer is not None:
        template = "{{ .Prompt }}"
        if tokenizer.chat_template:
            template = _OLLAMA_TEMPLATES.get(checkpoint.config.model_type, _GEMMA_TURNS)
        lines.append(f'TEMPLATE """{template}"""')
        stops = stop_token_ids(tokenizer, checkpoint.generation_config)
        lines += [f'PARAMETER stop "{tokenizer.piece_of(stop)}"' for stop in stops]
    settings = checkpoint.generation_config
    lines += [f"PARAMETER {ours} {settings[name]}" for name, ours in _OLLAMA_PARAMETERS.items() if name in settings]
    return {"Modelfile": "\n".join(lines) + "\n"}


def _vllm_script(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> dict[str, str]:
    """The command that serves the folder.

    Source: vLLM's documentation of `vllm serve`.
    """
    context = min(checkpoint.config.max_position_embeddings, _SERVER_CONTEXT)
    return {
        "serve-vllm.sh": "#!/bin/sh\n"
        "# Serve this folder with an OpenAI-compatible API on port 8000.\n"
        f'exec vllm serve "$(dirname "$0")" --max-model-len {context} "$@"\n'
    }


def _tensorrt_llm_script(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> dict[str, str]:
    """A program that loads the folder through TensorRT-LLM's LLM API, which needs no engine built beforehand.

    Source: TensorRT-LLM's documentation of the LLM API.
    """
    context = min(checkpoint.config.max_position_embeddings, _SERVER_CONTEXT)
    return {
        "run_tensorrt_llm.py": f'''"""Complete the prompts on the command line with TensorRT-LLM."""

import sys
from pathlib import Path

from tensorrt_llm import LLM, SamplingParams


def main() -> None:
    llm = LLM(model=str(Path(__file__).parent), max_seq_len={context})
    for output in llm.generate(sys.argv[1:] or ["The planets are"], SamplingParams(max_tokens=64)):
        print(output.prompt + output.outputs[0].text)


if __name__ == "__main__":
    main()
'''
    }


def _automodel_recipe(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> dict[str, str]:
    """A fine-tuning recipe of NeMo Automodel for this folder.

    Source: NeMo Automodel 0.7, recipes.llm.train_ft and the classes that the recipe names.
    """
    # Gemma 2 caps its attention scores, which only the eager attention does everywhere.
    attention = "eager" if checkpoint.config.attn_logit_softcapping else "sdpa"
    has_turns = "true" if tokenizer and tokenizer.chat_template else "false"
    recipe = _AUTOMODEL_RECIPE.substitute(dataset=_AUTOMODEL_DATASET, attention=attention, has_turns=has_turns)
    return {"automodel_recipe.yaml": recipe}


CONSUMERS: dict[str, Consumer] = {
    consumer.name: consumer
    for consumer in (
        Consumer("transformers", "hf", 'Load it: AutoModelForCausalLM.from_pretrained("{target}", dtype="auto")'),
        Consumer("vllm", "hf", "Serve it: sh {target}/serve-vllm.sh", _vllm_script),
        Consumer("llama.cpp", "gguf", "Run it: llama-cli -m {target}"),
        Consumer("ollama", "gguf", "Add it: ollama create NAME -f {target}/Modelfile", _modelfile, is_folder=True),
        Consumer("nemo", "hf", "Fine-tune it: cd {target} && automodel automodel_recipe.yaml", _automodel_recipe),
        Consumer("tensorrt-llm", "hf", "Run it: python {target}/run_tensorrt_llm.py PROMPT", _tensorrt_llm_script),
    )
}
