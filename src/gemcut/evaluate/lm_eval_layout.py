"""A run's results in the layout of lm-evaluation-harness, for the tools that read its files."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from gemcut.evaluate.run_folder import RunFolder

LAYOUT_VERSION = "0.4.13"
TASK_VERSION = "gemcut"  # no version of the harness's own task files
_OUTPUT_TYPES = {"choices": "multiple_choice", "generate": "generate_until"}
_FILTERS = ("strict-match", "flexible-extract")  # the harness calls these filters of one metric


def lm_eval_results(run: RunFolder) -> dict[str, Any]:
    """The whole results file, as lm-evaluation-harness writes it without samples.

    Keys that only its own runs have (git_hash, transformers_version, hashes of its task files) are left out; which
    program made the figures is under "config".

    Source: lm-eval 0.4.13, lm_eval/result_schema.py, lm_eval/evaluator_utils.py.
    """
    results: dict[str, Any] = {}
    parts: dict[str, list[str]] = {}
    shared: dict[str, dict[str, Any]] = {
        key: {} for key in ("configs", "versions", "n-shot", "higher_is_better", "n-samples")
    }
    for name, task in run.tasks.items():
        results[name] = _metrics(name, task.get("title") or name, task["metrics"], task["num_items"])
        _describe(shared, name, task, task["metrics"], task["num_items"], task["num_total"])
        parts[name] = []
        for subset, figures in (task.get("subsets") or {}).items():
            part = f"{name}_{re.sub(r'[^A-Za-z0-9]+', '_', str(subset)).strip('_').lower()}"
            num_items = max((figure["num_items"] for figure in figures.values()), default=0)
            results[part] = _metrics(part, str(subset), figures, num_items)
            _describe(shared, part, task, figures, num_items, num_items)
            parts[name].append(part)
    grouped = {name: results[name] for name, each in parts.items() if each}
    return {
        "results": results,
        **({"groups": grouped} if grouped else {}),
        "group_subtasks": {name: each for name, each in parts.items() if each},
        **shared,
        "config": _config(run),
        "date": _timestamp(run.facts.get("date")),
        "model_source": "gemcut",
        "model_name": run.model_name,
        "model_name_sanitized": re.sub(r"[\"<>:/\|\\?\*\[\]]+", "__", run.model_name),
        "system_instruction": next((task.get("system") for task in run.tasks.values()), None),
        "total_evaluation_time_seconds": str(sum(task.get("seconds") or 0.0 for task in run.tasks.values())),
    }


def metric_key(metric: str, is_error: bool = False) -> str:
    """How the harness names a metric, or its standard error: "acc,none", "exact_match_stderr,strict-match"."""
    return f"{_bare(metric)}{'_stderr' if is_error else ''},{metric if metric in _FILTERS else 'none'}"


def _bare(metric: str) -> str:
    return "exact_match" if metric in _FILTERS else metric


def _metrics(name: str, alias: str, figures: Mapping[str, Any], num_items: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "alias": alias, "sample_len": num_items}
    for metric, figure in figures.items():
        row[metric_key(metric)] = figure["value"]
        row[metric_key(metric, True)] = "N/A" if figure["stderr"] is None else figure["stderr"]
    return row


def _describe(
    shared: Mapping[str, dict[str, Any]],
    name: str,
    task: Mapping[str, Any],
    figures: Mapping[str, Any],
    num_items: int,
    num_total: int,
) -> None:
    """Add a task, or a part of one, to the tables beside the results."""
    shared["configs"][name] = {
        "task": name,
        "dataset_path": (task.get("data") or {}).get("set"),
        "output_type": _OUTPUT_TYPES.get(str(task.get("kind")), task.get("kind")),
        "num_fewshot": task["num_shots"],
        "metric_list": [{"metric": metric} for metric in dict.fromkeys(_bare(metric) for metric in figures)],
        "metadata": {"version": TASK_VERSION},
    }
    shared["versions"][name] = TASK_VERSION
    shared["n-shot"][name] = task["num_shots"]
    shared["higher_is_better"][name] = {_bare(metric): figure["higher_is_better"] for metric, figure in figures.items()}
    shared["n-samples"][name] = {"original": num_total, "effective": num_items}


def _config(run: RunFolder) -> dict[str, Any]:
    model, tasks = run.facts["model"], list(run.tasks.values())
    first: Mapping[str, Any] = tasks[0] if tasks else {}
    return {
        "model": "gemcut",
        "model_args": {
            key: model.get(key) for key in ("name", "engine", "dtype", "weights_sha256", "tokenizer_sha256")
        },
        "model_dtype": model.get("dtype"),
        "model_sha": model.get("weights_sha256"),
        "batch_size": "auto",
        "device": model.get("device"),
        "use_cache": None,
        "limit": first.get("limit"),
        "bootstrap_iters": 0,
        "gen_kwargs": None,
        "fewshot_seed": first.get("seed"),
        "made_by": f"gemcut {run.facts.get('gemcut')}; layout of lm-eval {LAYOUT_VERSION}",
    }


def _timestamp(date: Any) -> float | None:
    """Seconds since 1970 of an ISO date."""
    try:
        return datetime.datetime.fromisoformat(str(date)).timestamp()
    except ValueError:
        return None
