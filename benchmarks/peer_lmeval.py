"""lm-evaluation-harness with its Hugging Face backend as one of two programs; runs in .venv-lmeval.

python peer_lmeval.py MODEL_FOLDER [--dtype D] [--threads N] [--batch-size N] [--scored-logits]

A request is a JSON line: {"task": a file of lm_eval_tasks, "docs": {lm-eval's task: numbers of rows}, "shots": how many
examples, "examples": the rows they are taken from, or null for what lm-eval's task says, "sampler": "first_n" or
"default", "max_tokens": at most so many, "ask": whether the model is asked, "batch_size": how many requests at a time}.
The answer has each row's requests, the model's answers and lm-eval's own metrics, and "seconds" for making the prompts
and asking.

With --scored-logits the model computes the logits of those positions alone that lm-eval looks at, its others being
thrown away: same numbers in half the time, for proofs and not for measurements of speed; one request at a time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TOKENIZERS_PARALLELISM="false")
HERE = Path(__file__).resolve().parent
SEED = 1234  # lm-eval's own for examples
PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers", "datasets")


def main() -> None:
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--scored-logits", action="store_true")
    arguments = parser.parse_args()
    answers = sys.stdout
    sys.stdout = sys.stderr
    harness = Harness(arguments)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(json.dumps({"ready": versions}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(harness.answer(json.loads(line)), default=float), file=answers, flush=True)


class Harness:
    """lm-eval's tasks over the files beside the checkout, and a model."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import evaluate
        import torch
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        # The metric of code is a script that lm-eval downloads; programs are run elsewhere.
        evaluate.load = lambda *_, **__: argparse.Namespace(compute=lambda **_: ({"pass@1": 0.0}, {}))
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        self.model = HFLM(
            pretrained=arguments.model, dtype=arguments.dtype, device="cpu", batch_size=arguments.batch_size
        )
        self.scored_logits = arguments.scored_logits
        os.chdir(HERE.parent)  # the task files name data from there
        self.tasks = TaskManager(include_path=str(HERE / "lm_eval_tasks"))
        self.loaded: dict[str, dict[str, Any]] = {}
        sys.path.insert(0, str(HERE / "lm_eval_tasks"))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What comes of one request."""
        name = request["task"]
        if name not in self.loaded:
            self.loaded[name] = self.tasks.load(f"offline_{name}")["tasks"]
        self.model.batch_size_per_gpu = request.get("batch_size", self.model.batch_size_per_gpu)
        start = time.perf_counter()
        instances = []
        for task_name, numbers in request["docs"].items():
            task = self.prepared(name, task_name, request)
            task.build_all_requests(samples=numbers or None)
            for instance in task.instances:
                instance.doc_id = numbers[instance.doc_id] if numbers else instance.doc_id
                if instance.request_type == "generate_until" and request.get("max_tokens"):
                    settings = instance.arguments[1]
                    settings["max_gen_toks"] = min(settings.get("max_gen_toks", 256), request["max_tokens"])
                instances.append((task, instance))
        if request.get("ask", True):
            self.ask([instance for _, instance in instances])
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "docs": self.facts(instances, request)}

    def prepared(self, name: str, task_name: str, request: dict[str, Any]) -> Any:
        """The task with the examples that are asked for."""
        import rows
        from lm_eval.api.samplers import get_sampler

        task = self.loaded[name][task_name]
        if request.get("shots") is not None:
            task.set_config("num_fewshot", request["shots"])
        if request.get("examples") is not None:
            examples = rows.examples(name, request["examples"])
            task.sampler = get_sampler(request["sampler"])(examples, rnd=None)
        task.set_fewshot_seed(SEED)
        return task

    def ask(self, instances: list[Any]) -> None:
        """The model's answers."""
        kinds = {instance.request_type for instance in instances}
        for kind in kinds:
            asked = [instance for instance in instances if instance.request_type == kind]
            if self.scored_logits and kind == "loglikelihood":
                self.keep_logits(max(self.request_of(instance, ids=True)["scored"] for instance in asked))
            answers = getattr(self.model, kind)(asked, disable_tqdm=True)
            for instance, answer in zip(asked, answers, strict=True):
                instance.resps.append(answer)

    def keep_logits(self, count: int) -> None:
        """Compute the logits of the last `count` positions only; lm-eval counts from their end, whatever their number.

        A batch would be padded at its end, and then they were the wrong ones.
        """
        import torch

        def model_call(token_ids: torch.Tensor, **_: Any) -> torch.Tensor:
            if len(token_ids) != 1:
                raise ValueError("--scored-logits takes one request at a time")
            with torch.no_grad():
                return self.model.model(token_ids, logits_to_keep=count).logits

        self.model._model_call = model_call

    def facts(self, instances: list[tuple[Any, Any]], request: dict[str, Any]) -> list[dict[str, Any]]:
        """Each row's requests, answers and metrics."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        ids = request.get("token_ids", True)
        for task, instance in instances:
            key = (task.task_name, instance.doc_id)
            doc = found.setdefault(key, {"task": key[0], "doc": key[1], "requests": [], "answers": [], "metrics": {}})
            doc["requests"].append(self.request_of(instance, ids))
            doc["answers"] += instance.resps
        if request.get("metrics", True) and request.get("ask", True):
            for task in {id(task): task for task, _ in instances}.values():
                self.add_metrics(task, found)
        return list(found.values())

    def request_of(self, instance: Any, ids: bool) -> dict[str, Any]:
        """What is asked, in words and in token ids."""
        context, what = instance.arguments[0], instance.arguments[1] if len(instance.arguments) > 1 else ""
        if not ids:
            return {"context": context, "what": what}
        if instance.request_type == "generate_until":
            return {"context": context, "what": what, "token_ids": self.model.tok_encode(context), "scored": 0}
        if not context:
            continuation = self.model.tok_encode(what, add_special_tokens=False)
            return {"context": "", "what": what, "token_ids": [self.model.prefix_token_id, *continuation],
                    "scored": len(continuation)}  # fmt: skip
        before, continuation = self.model._encode_pair(context, what)
        return {"context": context, "what": what, "token_ids": before + continuation, "scored": len(continuation)}

    def add_metrics(self, task: Any, found: dict[tuple[str, int], dict[str, Any]]) -> None:
        """Lm-eval's own figures of each row."""
        task.apply_filters()
        by_doc: dict[int, list[Any]] = {}
        for instance in sorted(task.instances, key=lambda each: each.idx):
            by_doc.setdefault(instance.doc_id, []).append(instance)
        for number, instances in by_doc.items():
            for name in instances[0].filtered_resps:
                given = [instance.filtered_resps[name] for instance in instances]
                try:
                    metrics = task.process_results(instances[0].doc, given)
                except Exception as error:  # noqa: BLE001 - some need what is to be downloaded
                    metrics = {"error": repr(error)}
                figures = found[(task.task_name, number)]["metrics"]
                figures.update({f"{metric},{name}": value for metric, value in metrics.items()})


main()
