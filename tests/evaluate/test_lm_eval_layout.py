"""The layout of lm-evaluation-harness 0.4.13: its keys, and no others."""

from __future__ import annotations

import json

import pytest
from synthetic_runs import card_tasks, figures, item_scores, task_facts, write_run

from gemcut.evaluate.lm_eval_layout import lm_eval_results, metric_key
from gemcut.evaluate.run_folder import read_run

# Of lm_eval/result_schema.py, EvalResults: what a whole file may hold.
SCHEMA_KEYS = {
    "results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "samples",
    "config", "git_hash", "date", "pretty_env_info", "transformers_version", "lm_eval_version", "upper_git_hash",
    "tokenizer_pad_token", "tokenizer_eos_token", "tokenizer_bos_token", "eot_token_id", "max_length", "model_source",
    "model_name", "model_name_sanitized", "system_instruction", "system_instruction_sha", "fewshot_as_multiturn",
    "chat_template", "chat_template_sha", "task_hashes", "total_evaluation_time_seconds",
}  # fmt: skip


@pytest.fixture
def found(card_run):
    return lm_eval_results(read_run(card_run))


def test_keys_are_the_harness_s(found):
    assert set(found) <= SCHEMA_KEYS
    assert {"results", "group_subtasks", "configs", "versions", "n-shot", "n-samples", "config"} <= set(found)
    json.dumps(found, allow_nan=False)


def test_figures_of_a_task(found):
    row = found["results"]["hellaswag"]
    assert row["acc_norm,none"] == pytest.approx(0.41)
    assert row["acc_stderr,none"] == pytest.approx(0.0238, abs=1e-4)
    assert (row["name"], row["alias"], row["sample_len"]) == ("hellaswag", "HellaSwag", 400)
    assert found["n-shot"]["hellaswag"] == 10
    assert found["n-samples"]["hellaswag"] == {"original": 400, "effective": 400}
    assert found["higher_is_better"]["hellaswag"] == {"acc_norm": True, "acc": True}
    assert found["configs"]["hellaswag"]["output_type"] == "multiple_choice"
    assert found["configs"]["triviaqa"]["output_type"] == "generate_until"


def test_parts_are_tasks_of_a_group(found):
    parts = ["mmlu_abstract_algebra", "mmlu_anatomy", "mmlu_world_religions"]
    assert found["group_subtasks"] == {"mmlu": parts}
    assert found["groups"]["mmlu"] == found["results"]["mmlu"]
    assert found["results"]["mmlu_anatomy"]["alias"] == "anatomy"
    assert found["n-samples"]["mmlu_anatomy"]["effective"] == 40
    assert set(found["configs"]) == set(found["results"]) == set(found["versions"]) == set(found["n-shot"])


def test_filters_of_one_metric(tmp_path):
    items = item_scores({"strict-match": 0.1, "flexible-extract": 0.2}, 50, 0)
    run = write_run(tmp_path / "run", {"gsm8k": (task_facts("GSM8K", "generate", items, 5), items)})
    found = lm_eval_results(read_run(run))
    row = found["results"]["gsm8k"]
    assert (row["exact_match,strict-match"], row["exact_match,flexible-extract"]) == (0.1, 0.2)
    assert "exact_match_stderr,strict-match" in row
    assert found["configs"]["gsm8k"]["metric_list"] == [{"metric": "exact_match"}]
    assert metric_key("acc", True) == "acc_stderr,none"


def test_unknown_error_is_not_a_number_there_either(tmp_path):
    items = [{"acc": 1.0}]
    run = write_run(tmp_path / "run", {"mine": (task_facts("Mine", "choices", items, 0), items)}, date="yesterday")
    found = lm_eval_results(read_run(run))
    assert figures(items)["acc"]["stderr"] is None
    assert found["results"]["mine"]["acc_stderr,none"] == "N/A"
    assert found["date"] is None


def test_model_and_maker_are_told(found):
    assert (found["model_name"], found["model_source"]) == ("starter", "gemcut")
    assert found["config"]["model_args"]["engine"] == "native"
    assert found["config"]["made_by"] == "gemcut 0.5.0; layout of lm-eval 0.4.13"
    assert found["date"] == 1795521600.0


def test_the_harness_prints_it(tmp_path):
    """Where lm-evaluation-harness is installed, its own table takes the file."""
    utils = pytest.importorskip("lm_eval.utils")
    found = lm_eval_results(read_run(write_run(tmp_path / "run", card_tasks())))
    table = utils.make_table(found)
    assert "|hellaswag" in table.replace("HellaSwag", "hellaswag")
    assert "0.4100" in table
