"""`starter-it`, the starter with the adapter of the repository, answers, on every engine."""

import pytest

import gemcut

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def lm(starter_path, engine, starter_it_adapter):
    lm = gemcut.load(starter_path, engine=engine, adapter=starter_it_adapter)
    yield lm
    lm.close()


def test_it_talks_and_ends_its_answer(lm):
    assert lm.is_instruction_tuned
    answer = lm.chat([{"role": "user", "content": "What is the capital of France?"}], max_tokens=40, temperature=0.0)
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"
