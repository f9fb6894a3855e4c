"""POST /v1/completions: prompts of every form, echo, log-probabilities in parallel lists."""

import pytest

pytestmark = pytest.mark.native

GREEDY = {"temperature": 0}


def test_a_whole_answer_has_every_field(served):
    answer = served.complete(**GREEDY).json()
    assert answer["id"].startswith("cmpl-")
    assert answer["object"] == "text_completion"
    (choice,) = answer["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason", "stop_reason"}
    assert answer["usage"]["completion_tokens"] == 8


def test_sixteen_tokens_are_the_default(served):
    assert served.complete(max_tokens=None, ignore_eos=True).json()["usage"]["completion_tokens"] == 16


def test_prompts_in_every_form(served, tiny):
    ids = tiny.tokenizer.encode("Hi there")
    one, other = (served.complete(prompt, **GREEDY).json()["choices"][0]["text"] for prompt in ("Hi there", "Once"))
    for prompt in (["Hi there"], ids, [ids]):
        assert [choice["text"] for choice in served.complete(prompt, **GREEDY).json()["choices"]] == [one]
    both = served.complete(["Hi there", tiny.tokenizer.encode("Once")], n=2, **GREEDY).json()
    assert [choice["text"] for choice in both["choices"]] == [one, one, other, other]
    assert both["usage"]["prompt_tokens"] == len(ids) + len(tiny.tokenizer.encode("Once"))


def test_without_the_beginning_of_text_token(served, tiny):
    with_bos, without = (
        served.complete(add_special_tokens=flag).json()["usage"]["prompt_tokens"] for flag in (True, False)
    )
    assert with_bos == without + 1


def test_a_stream_adds_up_to_the_whole(served):
    fields = {"prompt": "Hi", "max_tokens": 12, "logprobs": 2, "echo": True, **GREEDY}
    events = served.events("/v1/completions", stream_options={"include_usage": True}, **fields)
    whole = served.client.post("/v1/completions", json=fields).json()["choices"][0]
    assert events[-1]["choices"] == []
    choices = [event["choices"][0] for event in events[:-1]]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    for name in ("tokens", "token_logprobs", "text_offset"):
        parts = [choice["logprobs"][name] for choice in choices if choice["logprobs"]]
        assert sum(parts, []) == whole["logprobs"][name]


def test_offsets_find_the_tokens(served):
    choice = served.complete("Hi é there", logprobs=0, echo=True, max_tokens=12, **GREEDY).json()["choices"][0]
    entries = choice["logprobs"]
    assert entries["top_logprobs"] is None
    assert entries["token_logprobs"][0] is None
    for token, offset in zip(entries["tokens"], entries["text_offset"], strict=True):
        if not token.startswith(("<", "bytes:", "\\")) and "\ufffd" not in choice["text"]:
            assert choice["text"][offset : offset + len(token)] == token


def test_echoed_logprobs_are_those_of_score(served, tiny):
    prompt = tiny.tokenizer.encode("Hi there friend")
    expected = tiny.engine_model.score([prompt])[0]
    fields = {"echo": True, "max_tokens": 0, **GREEDY}
    for num_top in (0, 3):
        choice = served.complete(prompt, logprobs=num_top, **fields).json()["choices"][0]
        assert choice["text"] == tiny.tokenizer.decode(prompt)
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(expected.tolist(), abs=1e-4)
        assert choice["finish_reason"] == "length"
    best = choice["logprobs"]["top_logprobs"][1]
    assert max(best.values()) >= choice["logprobs"]["token_logprobs"][1]
    assert len(best) in (3, 4)  # the token's own, too


def test_alternatives_of_long_echoes_are_refused(served, tiny, monkeypatch):
    monkeypatch.setattr("gemcut.serve.echoes._MAX_LOGITS_BYTES", 4 * tiny.config.vocab_size * 3)
    response = served.complete([5] * 4, echo=True, logprobs=1)
    assert response.status_code == 400
    assert "the prompt has 4 tokens, expected at most 3" in response.json()["error"]["message"]
    assert served.complete([5] * 4, echo=True, logprobs=0).status_code == 200


def test_control_tokens_show_when_asked(served, tiny):
    bias = {str(tiny.tokenizer.special_tokens["<start_of_turn>"]): 100}
    fields = {"max_tokens": 2, "logit_bias": bias, **GREEDY}
    assert served.complete(**fields).json()["choices"][0]["text"] == ""
    shown = served.complete(skip_special_tokens=False, **fields).json()["choices"][0]["text"]
    assert shown == "<start_of_turn>" * 2


def test_token_ids_come_along(served):
    choice = served.complete([5, 6], return_token_ids=True, **GREEDY).json()["choices"][0]
    assert choice["prompt_token_ids"] == [5, 6]
    assert len(choice["token_ids"]) == 8
    events = served.events("/v1/completions", prompt=[5, 6], return_token_ids=True, max_tokens=8, **GREEDY)
    assert sum((event["choices"][0]["token_ids"] for event in events), []) == choice["token_ids"]
