"""Runs in an environment with lm-evaluation-harness, named lm_eval: its own backend and Gemcut's, the same small tasks.

python .../lm_eval MODEL TASKS_FOLDER PACKAGES PTH_FILE [--chat]

PACKAGES is a folder of installed packages that has Gemcut; what it brings comes after the environment's own.
"""

import json
import site
import sys
from pathlib import Path

model, folder, packages, registration, *more = sys.argv[1:]
site.addsitedir(packages)
from lm_eval.api.registry import model_registry  # noqa: E402

if "gemcut" not in model_registry:  # an installed Gemcut brings this file itself
    exec(Path(registration).read_text())

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

backends = {
    "hf": {"pretrained": model, "dtype": "float32"},
    "gemcut": {"pretrained": model, "engine": "native", "dtype": "float32"},
}
found = {}
for name, arguments in backends.items():
    results = lm_eval.simple_evaluate(
        model=name,
        model_args=arguments,
        tasks=["tiny_choices", "tiny_texts", "tiny_whole", "tiny_rolling"],
        task_manager=TaskManager(include_path=folder, include_defaults=False),
        num_fewshot=0,
        batch_size=1,
        device="cpu",
        apply_chat_template="--chat" in more,
        system_instruction="Be brief." if "--chat" in more else None,
        bootstrap_iters=0,
    )
    found[name] = {
        "answers": {
            task: [sample["resps"] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]
            for task, samples in results["samples"].items()
        },
        "prompts": {task: [sample["arguments"] for sample in samples] for task, samples in results["samples"].items()},
        "config": {key: value for key, value in results["config"].items() if key.startswith("gemcut")},
    }
print("\n" + json.dumps(found, default=str))
