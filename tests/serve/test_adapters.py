"""A real adapter over HTTP: what the library answers with it, beside the model without it."""

from pathlib import Path

import httpx2
import pytest

import gemcut

pytestmark = pytest.mark.native

ADAPTER = Path(__file__).parents[1] / "golden" / "peft" / "every-matrix"  # as peft saved it
PROMPT = "Hello there, how are you?"
SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x", "yy", "zzz"]}, "b": {"type": "integer"}}}
REQUESTS = {
    "greedy": {"max_tokens": 30, "temperature": 0.0},
    "drawn": {"max_tokens": 30, "temperature": 1.0, "seed": 5, "n": 2},
    "schema": {"max_tokens": 40, "temperature": 1.0, "seed": 7, "json_schema": SCHEMA},
    "logprobs": {"max_tokens": 9, "temperature": 0.0, "logprobs": 2},
}


@pytest.fixture(scope="module")
def folder(write_tiny_model, tmp_path_factory):
    """A model that the adapter fits."""
    sizes = {"intermediate_size": 40, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8}
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny", max_position_embeddings=500, **sizes)


@pytest.fixture(scope="module")
def answers(folder):
    """What the library says, without the adapter and with it."""
    found = {}
    for name, adapter in (("tiny", None), ("tiny+odd", ADAPTER)):
        lm = gemcut.load(folder, engine="native", threads=1, adapter=adapter)
        found[name] = {kind: as_list(lm.generate(PROMPT, **options)) for kind, options in REQUESTS.items()}
        lm.close()
    return found


@pytest.fixture(scope="module")
def client(folder, launch):
    """Of `gemcut serve` with the adapter, which has no tokenizer of its own."""
    process, said = launch(folder, "--engine", "native", "--threads", "1", "--adapter", f"odd={ADAPTER}", PORT="0")
    url = next(line.split()[1] for line in said.splitlines() if line.startswith("  API"))
    assert "Serving tiny, tiny+odd" in said
    with process, httpx2.Client(base_url=url, timeout=60) as client:
        yield client
        process.terminate()
        assert process.wait(30) == 0


def as_list(completions):
    return completions if isinstance(completions, list) else [completions]


def asked(model, options):
    """A request's body for options of `generate`."""
    fields = {"model": model, "prompt": PROMPT, **options}
    if schema := fields.pop("json_schema", None):
        fields["structured_outputs"] = {"json": schema}
    return fields


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("model", ["tiny", "tiny+odd"])
def test_an_adapter_answers_as_the_library_does_with_it(client, answers, model, kind):
    response = client.post("/completions", json=asked(model, REQUESTS[kind])).json()
    assert response["model"] == model
    for choice, expected in zip(response["choices"], answers[model][kind], strict=True):
        assert (choice["text"], choice["finish_reason"]) == (expected.text, expected.finish_reason)
        if kind == "logprobs":
            values = [entry["logprob"] for entry in expected.logprobs]
            assert choice["logprobs"]["token_logprobs"] == pytest.approx(values, abs=1e-6)


def test_the_adapter_makes_a_difference(answers):
    """And a constrained answer is JSON with it and without."""
    plain, adapted = answers["tiny"], answers["tiny+odd"]
    for kind in ("greedy", "drawn", "logprobs"):
        assert [each.text for each in plain[kind]] != [each.text for each in adapted[kind]]
    assert all(each.text.startswith("{") for each in (*plain["schema"], *adapted["schema"]))


def test_both_are_listed_and_what_one_computed_the_other_does_not_take_over(client):
    models = client.get("/models").json()["data"]
    assert [(model["id"], model["parent"]) for model in models] == [("tiny", None), ("tiny+odd", "tiny")]
    known = []
    for model in ("tiny", "tiny+odd", "tiny", "tiny+odd"):
        body = {"model": model, "prompt": "A beginning that both have in common, and long enough", "max_tokens": 1}
        usage = client.post("/completions", json=body).json()["usage"]
        known.append(usage["prompt_tokens_details"]["cached_tokens"])
    assert known == [0, 0, *[usage["prompt_tokens"] - 1] * 2]
