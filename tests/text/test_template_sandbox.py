"""What a template must not do."""

from __future__ import annotations

import time

import pytest

from gemcut.errors import TemplateError
from gemcut.text import ChatTemplate

MESSAGES = [{"role": "user", "content": "x"}]
GROW = "{%% set ns = namespace(x='a' * 1000) %%}{%% for i in range(99) %%}%s{%% endfor %%}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__self__ }}",
        "{{ (messages | attr('__class__')).__base__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
    ],
)
def test_reaching_out_is_refused(source, gemma):
    with pytest.raises(TemplateError, match=r"f\.json: tries what a template must not do \(.*Do not trust this checkp"):
        ChatTemplate(source, tokenizer=gemma, where="f.json").render(MESSAGES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "250000 steps"),
        ("{% for a in 'aaaaaaaaaaaaaaaaaaaa' %}" * 8 + "{% endfor %}" * 8, "250000 steps"),
        ("{% for a in range(500) | map('string') %}{% for b in range(900) %}{% endfor %}{% endfor %}", "250000 steps"),
        ("{% for i in range(99999) | map('abs') %}{% for j in 'ab' %}{% endfor %}{% endfor %}", "250000 steps"),
        ("{% macro f(n) %}{{ f(n - 1) if n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(60) }}", "250000 steps"),
        ("{{ 'a' * 100000000000 }}", "a value of more than"),
        ("{{ 100000000000 * 'a' }}", "a value of more than"),
        ("{{ [1] * 10000000000 }}", "a value of more than"),
        ("{{ 10 ** 1000000000 }}", "a number of more than 4096 bits"),
        (GROW % "{% set ns.x = ns.x ~ ns.x %}", "a value of more than"),
        (GROW % "{% set ns.x = ns.x + ns.x %}", "a value of more than"),
        (GROW % "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}", "a value of more than"),
        (GROW % "{% set ns.x = [ns.x, ns.x] | join %}", "a value of more than"),
        (GROW % "{% set ns.x = ns.x.replace('a', 'aa') %}", "a value of more than"),
        ("{{ 'a'.replace('', 'b' * 16000000) }}", "a value of more than"),
        ("{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}", "a value of more than"),
        ("{{ 'x' | center(10000000000) }}", "a width of more than 10000"),
        ("{{ 'x' | indent(width=1000000000) }}", "a width of more than 10000"),
        ("{{ 'x'.ljust(1000000000) }}", "a width of more than 10000"),
        ("{{ messages | tojson(indent=1000000000) }}", "a width of more than 10000"),
        ("{{ '%1000000000d' % 1 }}", "a format that pads"),
        ("{{ '%1000000000d' | format(1) }}", "a format that pads"),
        ("{{ '{:1000000000}'.format(1) }}", "a format that pads"),
    ],
)
def test_endless_work_and_huge_texts_are_refused(source, found, gemma):
    begin = time.monotonic()
    with pytest.raises(TemplateError, match=f"f\\.json: makes .*{found}.*more than any chat template needs"):
        ChatTemplate(source, tokenizer=gemma, where="f.json").render(MESSAGES)
    assert time.monotonic() - begin < 15  # the limit is 10 s of work


def test_a_huge_prompt_is_refused(gemma):
    source = "{% for i in range(9000) %}{{ 'a' * 10000 }}{% endfor %}"
    with pytest.raises(TemplateError, match=r"f\.json: writes more than 16777216 characters"):
        ChatTemplate(source, tokenizer=gemma, where="f.json").render(MESSAGES)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for i in range(3) %}{{ loop.index }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}", "12"),
        ("{% for m in messages if m.role == 'user' %}{{ loop.last }}{{ loop.length }}{% endfor %}", "True1"),
        ("{% for k, v in {'b': 1, 'a': 2} | dictsort %}{{ k ~ v }}{% endfor %}", "a2b1"),
        ("{% for x in nothing %}{% else %}none{% endfor %}", "none"),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "x"),
        ("{% set ns = namespace(n=0) %}{% set ns.n = ns.n + 2 * 3 %}{{ ns.n }}", "6"),
        ("{% set text %} a {% endset %}[{{ text | trim }}]", "[a]"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "x"}]'),
        ("{{ {'b': 'é<', 'a': 1} | tojson(indent=2, sort_keys=true) }}", '{\n  "a": 1,\n  "b": "é<"\n}'),
        ("{{ {'a': 'é'} | tojson(ensure_ascii=true) }}", '{"a": "\\u00e9"}'),
        ("{{ '%s-%05.1f' % ('a', 2) }}{{ 'b'.rjust(3) }}{{ '{}'.format(1) }}", "a-002.0  b1"),
        ("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(1) }}{{ [3, 1] | sort | join(',') }}", "<1>1,3"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("   {% if true %}\nline\n   {% endif %}\n", "line\n"),
    ],
)
def test_what_templates_do_works(source, expected, gemma):
    assert ChatTemplate(source, tokenizer=gemma, where="f.json").render(MESSAGES) == expected
