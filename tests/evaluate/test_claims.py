"""The announcement's sentences follow from the published table, and say which figures are published."""

from __future__ import annotations

import pytest
from synthetic_runs import card_tasks, item_scores, mmlu_task, task_facts, write_run

from gemcut.evaluate.claims import benchmarks, derive_claims
from gemcut.evaluate.run_folder import read_run


@pytest.fixture(scope="module")
def claims():
    return {claim.sentence: claim for claim in derive_claims().claims}


@pytest.mark.parametrize(
    ("sentence", "verdict", "because"),
    [
        ("Gemma 7B is above Llama 2 7B and 13B on MMLU, HellaSwag and HumanEval.", "holds",
         "it is above in 6 of 6 comparisons; the closest is HellaSwag, +0.5 to Llama 2 13B"),
        ("Gemma 7B is ahead in coding.", "holds",
         "means of the group: +21.6 to Llama 2 7B, +13.9 to Llama 2 13B, +5.2 to Mistral 7B"),
        ("Gemma 7B is ahead in maths and science.", "holds",
         "means of the group: +24.2 to Llama 2 7B, +15.9 to Llama 2 13B, +8.1 to Mistral 7B"),
        ("Gemma 7B is narrowly ahead in reasoning.", "holds", "+0.11 to Mistral 7B, the next"),
        ("Gemma 7B is below Llama 2 13B in question answering.", "holds", "-4.6 to Llama 2 13B; +0.4 to Llama 2 7B"),
        ("Gemma 7B is best on 11 of 18 benchmarks.", "holds in part",
         "strictly best on 10, tied on 1 (BoolQ): 11 only if a tie counts"),
        ("Gemma 7B surpasses a larger model, Llama 2 13B.", "holds in part",
         "above on 14 of 18 benchmarks, not on WinoGrande, OpenBookQA, TriviaQA, Natural Questions"),
    ],
)  # fmt: skip
def test_sentence(claims, sentence, verdict, because):
    claim = claims[sentence]
    assert claim.verdict == verdict
    assert claim.because.startswith(because)
    assert claim.evidence


def test_the_reports_table_has_18_rows():
    assert len(benchmarks()) == 18
    assert benchmarks()[0] == "mmlu"


def test_errors_of_the_record_are_told_with_their_source():
    record = dict(derive_claims().record)
    (table6,) = [lines for source, lines in record.items() if source.endswith("table 6")]
    assert "Prints the average 54.0 for Mistral 7B; that of its rows is 54.5." in table6
    assert "Prints the average 56.4 for Gemma 7B; that of its rows is 56.9." in table6
    assert not any("Gemma 2B; that of its rows" in line for line in table6)
    assert any("prints 59.7 for this cell" in line for line in table6)
    assert any("look swapped" in line for lines in record.values() for line in lines)


def test_json_says_what_is_published():
    found = derive_claims().as_dict()
    assert found["figures"].startswith("published, not measured here")
    assert found["measured_model"] is None
    assert all(row["measured"] is None for claim in found["claims"] for row in claim["evidence"])


def test_run_stands_beside_and_changes_no_verdict(tmp_path):
    items = item_scores({"pass@1": 0.5}, 20, 1)
    code = {name: (task_facts(name, "generate", items, 0), items) for name in ("humaneval", "mbpp")}
    run = read_run(write_run(tmp_path / "run", card_tasks() | {"mmlu": mmlu_task()} | code))
    found = derive_claims(run)
    assert [claim.verdict for claim in found.claims] == [claim.verdict for claim in derive_claims().claims]
    assert found.measured_model == "starter"
    assert found.measured_as == "Gemma 3 270M (the model's name is 'starter')"
    rows = {row.what: row for claim in found.claims for row in claim.evidence}
    assert rows["HellaSwag"].measured["value"] == pytest.approx(41.0)
    assert rows["HellaSwag"].measured["metric"] == "acc_norm"
    assert rows["coding"].measured["value"] == pytest.approx(50.0)
    assert rows["reasoning"].measured is None  # incomplete
    assert rows["HumanEval"].published["gemma-7b"] == 32.3
