"""One text: its tokens in, its characters out, and why it ends."""

from __future__ import annotations

import numpy as np
import pytest

from gemcut.generate.sequence import GenerationOptions, Sequence
from gemcut.interfaces import Chosen, SamplingOptions


@pytest.fixture
def sequence(tokenizer):
    def make(*, limit=20, stop=(), logprobs=None, seed=None, index=0):
        sampling = SamplingOptions(seed=seed)
        return Sequence([2, 5], tokenizer, GenerationOptions(limit, stop, (1, 15), logprobs, sampling), limit, index)

    return make


def chosen(*token_ids, **rest):
    return Chosen(list(token_ids), **rest)


def byte_ids(text):
    return [46 + byte for byte in text.encode()]


def test_characters_are_held_back_until_they_are_whole(sequence):
    made = sequence()
    first, second, third = byte_ids("é€")[:1], byte_ids("é€")[1:4], byte_ids("é€")[4:]
    assert [made.push(chosen(*part)) for part in (first, second, third)] == ["", "é", "€"]
    assert made.completion().text == "é€"


def test_half_a_character_at_the_end_becomes_a_replacement_character(sequence):
    made = sequence(limit=2)
    assert made.push(chosen(*byte_ids("€")[:2])) == "\ufffd\ufffd"
    assert (made.finish_reason, made.text) == ("length", "\ufffd\ufffd")


@pytest.mark.parametrize("stop_id", [1, 15])
def test_stop_id_ends_the_text_and_is_counted_but_not_kept(sequence, stop_id):
    made = sequence()
    made.push(chosen(*byte_ids("ab"), stop_id, *byte_ids("c")))
    done = made.completion()
    assert (done.text, done.token_ids, done.finish_reason) == ("ab", byte_ids("ab"), "stop")
    assert done.usage == {"prompt_tokens": 2, "completion_tokens": 3}
    assert made.remaining == 0


def test_stop_id_as_the_last_token_allowed_is_a_stop(sequence):
    made = sequence(limit=2)
    made.push(chosen(*byte_ids("a"), 1))
    assert made.completion().finish_reason == "stop"


def test_stop_string_cuts_the_text_and_keeps_the_tokens(sequence):
    made = sequence(stop=("b.",))
    shown = [made.push(chosen(token_id)) for token_id in byte_ids("ab.c")]
    assert shown == ["a", "", "", ""]
    done = made.completion()
    assert (done.text, done.token_ids, done.finish_reason) == ("a", byte_ids("ab."), "stop")
    assert done.usage["completion_tokens"] == 3


def test_held_back_beginning_of_a_stop_string_is_shown_at_the_end(sequence):
    made = sequence(limit=2, stop=("b.",))
    assert made.push(chosen(*byte_ids("ab"))) == "ab"
    assert made.completion().finish_reason == "length"


def test_unfinished_sequence_counts_as_cut_off(sequence):
    made = sequence()
    made.push(chosen(*byte_ids("a")))
    assert (made.completion().finish_reason, made.remaining) == ("length", 19)


def test_logprobs_name_tokens_and_leave_the_stop_id_out(sequence):
    made = sequence(logprobs=2)
    a, b = byte_ids("ab")
    top = [[(a, -0.5), (b, -2.0)], [(b, -0.25), (a, -3.0)], [(1, -1.0), (a, -4.0)]]
    made.push(chosen(a, b, 1, logprobs=[-0.5, -0.25, -1.0], top=top))
    entries = made.completion().logprobs
    assert [entry["token_id"] for entry in entries] == [a, b]
    assert entries[0] == {
        "token_id": a,
        "token": "a",
        "logprob": -0.5,
        "top": [{"token_id": a, "token": "a", "logprob": -0.5}, {"token_id": b, "token": "b", "logprob": -2.0}],
    }


def test_logprobs_without_alternatives(sequence):
    made = sequence(logprobs=0)
    made.push(chosen(*byte_ids("a"), logprobs=[-0.5]))
    assert made.completion().logprobs == [{"token_id": byte_ids("a")[0], "token": "a", "logprob": -0.5, "top": []}]


def test_draws_follow_the_seed_and_the_sample_and_not_the_bursts(sequence):
    """Each token of a text has its draw, however many were asked for before it and not used."""
    whole = sequence(seed=3).uniforms(140)
    assert (whole.dtype, whole.min() >= 0, whole.max() < 1) == (np.float32, True, True)
    again, parts = sequence(seed=3, limit=200), []
    for asked, used in ((1, 1), (2, 1), (70, 4), (100, 34), (100, 100)):
        parts += again.uniforms(asked).tolist()[:used]
        again.push(chosen(*byte_ids("a" * used)))
    assert parts == whole.tolist()
    for other in (sequence(seed=4), sequence(seed=3, index=1), sequence(), sequence(seed=-3)):
        assert other.uniforms(140).tolist() != whole.tolist()
    assert sequence().uniforms(8).tolist() != sequence().uniforms(8).tolist()


def test_ids_of_rows_that_pad_the_embedding_have_no_text(sequence, tokenizer):
    made = sequence(logprobs=0)
    made.push(chosen(*byte_ids("a"), tokenizer.vocab_size, *byte_ids("b"), logprobs=[0.0] * 3))
    done = made.completion()
    assert (done.text, len(done.token_ids), done.logprobs[1]["token"]) == ("ab", 3, "")
