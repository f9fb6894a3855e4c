"""What texts under a constraint say, whatever the model wants: a model of random tokens writes them."""

from __future__ import annotations

import json
import random
import sys
import threading
import types
from pathlib import Path

import jsonschema
import llguidance
import numpy as np
import pytest

import gemcut
from gemcut.engine import NativeCheckpoint, NativeTokenizer
from gemcut.errors import MissingExtraError, UsageError
from gemcut.generate.constraints import MAX_GRAMMAR_BYTES, GrammarCompiler
from gemcut.text import Tokenizer, stop_token_ids
from gemcut.text.tokenizer_settings import settings_from_config
from gemcut.text.tool_calls import parse_tool_calls, read_tools
from gemcut.text.tool_calls_functiongemma import BEGIN, END, ESCAPE, FunctionGemmaToolFormat
from gemcut.text.tool_calls_gemma import GemmaToolFormat

SCHEMAS = json.loads((Path(__file__).parent / "data" / "schemas.json").read_text(encoding="utf-8"))
TINY = Path(__file__).resolve().parents[1] / "text" / "data"
CLOSING = (b'"', b"]", b"}", ESCAPE.encode(), END.encode())
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
        "place": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {"type": "number"}}}]},
    },
    "required": ["city"],
}


def tool(name="get_weather", parameters=WEATHER, **more):
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


def load_tiny(name, **config):
    settings = settings_from_config(config, "tokenizer_config.json")
    return Tokenizer.from_sentencepiece((TINY / f"{name}.model").read_bytes(), where=name, settings=settings)


@pytest.fixture(scope="session")
def function_tokenizer():
    """The tiny Gemma vocabulary with the control tokens of FunctionGemma."""
    added = {str(6 + i): {"content": piece} for i, piece in enumerate((BEGIN, END, ESCAPE))}
    return load_tiny("tiny-gemma", added_tokens_decoder=added)


@pytest.fixture(scope="session")
def compiler(tokenizer):
    return GrammarCompiler(tokenizer, stop_token_ids(tokenizer))


def allowed_ids(constraint):
    return np.flatnonzero(np.unpackbits(constraint.allowed().view(np.uint8), bitorder="little")).tolist()


def random_answer(constraint, tokenizer, seed, *, max_tokens=600, patience=60, prefers=None):
    """A text with its control tokens, and whether it is complete.

    After `patience` tokens the model closes what it can, as a trained one does at some time.
    """
    rng = random.Random(seed)
    stops = stop_token_ids(tokenizer)
    token_ids, is_complete = [], False
    while not is_complete and len(token_ids) < max_tokens:
        new = constraint.forced()
        if not new:
            choices = allowed_ids(constraint)
            closing = [i for i in choices if i in stops or tokenizer.token_bytes(i).startswith(CLOSING)]
            new = [rng.choice(closing if closing and len(token_ids) > patience else choices)]
        if new[0] in stops:
            is_complete = True
        else:
            constraint.push(new)
            token_ids += new
            is_complete = constraint.is_finished
    return tokenizer.decode(token_ids, skip_special=False, continues_prompt=True), is_complete


@pytest.mark.parametrize("case", SCHEMAS, ids=[case["name"] for case in SCHEMAS])
def test_answers_obey_their_schema(case, compiler, tokenizer):
    validator = jsonschema.Draft202012Validator(case["schema"], format_checker=jsonschema.FormatChecker())
    for seed in range(6):
        text, is_complete = random_answer(compiler.json_schema(case["schema"]), tokenizer, seed)
        assert is_complete, text
        validator.validate(json.loads(text))


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(lambda: load_tiny("tiny-gemma"), id="Gemma"),
        pytest.param(lambda: load_tiny("tiny-llama"), id="Llama, a space before every text"),
        pytest.param(lambda: load_tiny("tiny-llama", legacy=False), id="Llama, as newer files have it"),
    ],
)
def test_every_tokenizer_writes_what_the_grammar_says(load):
    tokenizer = load()
    compiler = GrammarCompiler(tokenizer, stop_token_ids(tokenizer))
    text = ' ä "two  spaces"\n\U0001f600 <s>\t '
    constraint = compiler.lark(f"start: {json.dumps(text, ensure_ascii=False)}")
    token_ids = []
    while not constraint.is_finished:
        new = constraint.forced() or [allowed_ids(constraint)[0]]
        constraint.push(new)
        token_ids += new
    assert tokenizer.decode(token_ids, continues_prompt=True) == text
    assert not set(token_ids) & tokenizer.special_token_ids


@pytest.mark.native
def test_the_native_tokenizer_gives_the_same_masks(tmp_path, write_tiny_model, tokenizer):
    with NativeCheckpoint(write_tiny_model(tmp_path / "model")) as checkpoint:
        native = NativeTokenizer(checkpoint)
    both = [GrammarCompiler(each, stop_token_ids(each)).json_object() for each in (native, tokenizer)]
    for token_id in tokenizer.encode('{"the name": [1, "ä\U0001f600"]}', add_bos=False):
        np.testing.assert_array_equal(*(each.allowed() for each in both))
        for each in both:
            each.push([token_id])
    assert all(each.is_finished for each in both)


def test_stop_ids_are_allowed_exactly_where_the_text_may_end(compiler, tokenizer):
    stops = set(stop_token_ids(tokenizer))
    assert len(stops) == 2
    constraint = compiler.regex("[0-9]{2,3}")
    ends = []
    for token_id in tokenizer.encode("123", add_bos=False):
        ends.append(stops & set(allowed_ids(constraint)))
        constraint.push([token_id])
    assert ends == [set(), set(), stops]
    assert constraint.is_finished
    assert set(allowed_ids(constraint)) == stops
    constraint.push(sorted(stops))


def test_a_stop_id_of_the_grammars_own_does_not_count(compiler, tokenizer):
    constraint = compiler.lark('start: "a" <[1]> "b"')
    constraint.push(tokenizer.encode("a", add_bos=False))
    assert allowed_ids(constraint) == []


def test_control_tokens_and_padding_are_never_allowed(tokenizer):
    compiler = GrammarCompiler(tokenizer, [1])
    allowed = set(allowed_ids(compiler.regex("(?s:.)*")))
    assert allowed - {1} <= set(range(tokenizer.vocab_size)) - tokenizer.special_token_ids
    assert compiler.regex("a").allowed().shape == (-(-tokenizer.vocab_size // 32),)


def test_what_must_follow_is_forced(compiler, tokenizer):
    constraint = compiler.json_schema({"const": {"version": [1, 2]}}, spacing="one")
    token_ids = constraint.forced()
    assert tokenizer.decode(token_ids, continues_prompt=True).startswith('{"version": [1, 2')
    assert constraint.forced() == token_ids, "forced tokens count only once they are pushed"
    constraint.push(token_ids)
    while not constraint.is_finished:
        constraint.push(constraint.forced() or allowed_ids(constraint)[:1])
    assert constraint.forced() == []


@pytest.mark.parametrize(
    ("spacing", "allowed", "refused"),
    [
        ("none", ['{"a":1,"b":2}'], ['{"a": 1,"b":2}', '{"a":1, "b":2}']),
        ("one", ['{"a": 1, "b": 2}'], ['{"a":1, "b": 2}', '{"a":  1, "b": 2}']),
        ("optional", ['{"a":1,"b":2}', '{"a": 1, "b": 2}', '{"a":1, "b": 2}'], ['{"a":  1,"b":2}', '{ "a":1}', '{\n"a":1}']),
    ],
)  # fmt: skip
def test_white_space_is_bounded(spacing, allowed, refused, compiler, tokenizer):
    for text in allowed:
        constraint = compiler.json_object(spacing=spacing)
        constraint.push(tokenizer.encode(text, add_bos=False))
        assert constraint.is_finished
    for text in refused:
        with pytest.raises(UsageError, match="json_schema: token id"):
            compiler.json_object(spacing=spacing).push(tokenizer.encode(text, add_bos=False))
    with pytest.raises(UsageError, match="spacing is 'wide', expected one of 'none', 'one', 'optional'"):
        compiler.json_object(spacing="wide")


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("json_schema", {"uniqueItems": True, "type": "array"}, r'json_schema: .*"uniqueItems"'),
        ("json_schema", {"not": {"type": "null"}}, r'json_schema: .*"not"'),
        ("json_schema", {"type": "string", "format": "colour"}, "json_schema: Unknown format: colour"),
        ("json_schema", {"type": "whole"}, "json_schema: Invalid type: whole"),
        ("json_schema", {"type": "integer", "minimum": 5, "maximum": 1}, "json_schema: Unsatisfiable schema"),
        ("json_schema", {"$ref": "#"}, "json_schema: no text satisfies it"),
        ("json_schema", {"$ref": "file:///etc/hostname"}, "json_schema: Resource .* does not fetch"),
        ("json_schema", {"not": "looked at", "x-guidance": {"lenient": True}}, "json_schema: .*not"),
        ("json_schema", False, "json_schema: Unsatisfiable"),
        ("json_schema", "{}", "json_schema: found a str, expected a JSON schema"),
        ("json_schema", {"const": float("nan")}, "json_schema: it is no JSON"),
        ("json_schema", {"const": object()}, "json_schema: it is no JSON"),
        ("json_schema", {"enum": ["x" * MAX_GRAMMAR_BYTES]}, "json_schema: it has 131086 bytes, expected 1 to 131072"),
        ("json_schema", {"minimum": 10**400}, r"json_schema: number out of range .*\. Correct or simplify it\."),
        ("regex", "(a", "regex: .*unclosed group"),
        ("regex", "(?=a)b", "regex: .*look-around"),
        ("regex", "", "regex: it has 0 bytes"),
        ("regex", 5, "regex: found a int, expected text"),
        ("regex", "\ud800", "regex: it holds a lone surrogate"),
        ("regex", "(" * 60_000 + ")" * 60_000, "regex: .*invalid regex"),
        ("lark", "begin: /a/", "grammar: .*start"),
        ("lark", "start: unknown", "grammar: .*unknown"),
        ("lark", "start: " + "(" * 50_000, "grammar: .*nested"),
    ],
)  # fmt: skip
def test_what_cannot_be_enforced_is_refused(kind, source, message, compiler):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        getattr(compiler, kind)(source)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("lark", "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(7_000)) + '\nr7000: "a"'),
        ("lark", "start: T0\n" + "\n".join(f"T{i}: T{i + 1}" for i in range(7_000)) + '\nT7000: "a"'),
        ("json_schema", {"$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3_500)} | {"d3500": {}},
                         "$ref": "#/$defs/d0"}),
    ],
    ids=["rules", "terminals", "references"],
)  # fmt: skip
def test_long_chains_do_not_overflow_the_stack(kind, source, compiler):
    assert allowed_ids(getattr(compiler, kind)(source))


@pytest.mark.parametrize("method", ["grammar_from_json_schema", "grammar_from_regex", "grammar_from_lark", "__new__"])
def test_a_panic_of_the_library_is_an_error_of_the_text(tokenizer, monkeypatch, method):
    """As Rust raises it, which is no Exception."""

    def panic(*arguments, **options):
        raise BaseException("called `Option::unwrap()` on a `None` value")

    library = types.SimpleNamespace(**{name: getattr(llguidance, name) for name in ("LLTokenizer", "LLParserLimits")})
    names = ("grammar_from_json_schema", "grammar_from_regex", "grammar_from_lark")
    library.LLMatcher = type(
        "LLMatcher", (), {name: staticmethod(getattr(llguidance.LLMatcher, name)) for name in names}
    )
    setattr(library.LLMatcher, method, staticmethod(panic))
    monkeypatch.setattr("gemcut.generate.constraints._llguidance", lambda: library)
    compiler = GrammarCompiler(tokenizer, stop_token_ids(tokenizer))
    make = {"grammar_from_json_schema": compiler.json_object, "grammar_from_lark": lambda: compiler.lark("start: /a/")}
    with pytest.raises(UsageError, match=r": called `Option::unwrap\(\)` on a `None` value\. Correct or simplify it\."):
        make.get(method, lambda: compiler.regex("a"))()


def test_work_without_end_is_refused_while_the_text_grows(compiler, tokenizer):
    constraint = compiler.lark("start: A\nA: /(([a-z]{1,500}){1,500}){1,500}/")

    def grow():
        for token_id in tokenizer.encode("a" * 300, add_bos=False):
            constraint.push([token_id])
            constraint.allowed()

    with pytest.raises(UsageError, match=r"grammar: .*\. Simplify it\."):
        grow()


def test_deep_schemas_are_refused(compiler):
    schema = {}
    for _ in range(5_000):
        schema = {"items": schema}
    with pytest.raises(UsageError, match="json_schema: it is no JSON"):
        compiler.json_schema(schema)


def test_what_was_not_allowed_cannot_be_pushed(compiler, tokenizer):
    constraint = compiler.regex("abc")
    with pytest.raises(UsageError, match="regex: token id 1 was pushed, expected one that `allowed` has"):
        constraint.push([1])
    with pytest.raises(UsageError, match="regex: token id"):
        constraint.push(tokenizer.encode("x", add_bos=False))
    constraint.push(tokenizer.encode("ab", add_bos=False))


def test_a_model_needs_an_end(tokenizer):
    with pytest.raises(UsageError, match="stop_token_ids: found none"):
        GrammarCompiler(tokenizer, [])


def test_the_extra_is_named(monkeypatch, tokenizer):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'gemcut\[serve\]'"):
        GrammarCompiler(tokenizer, [1]).regex("a")


@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
def test_odd_values_of_tools_are_written_or_refused(form, function_tokenizer):
    compiler = GrammarCompiler(function_tokenizer, [1])
    value = 'a"b\\c/d\n\t\u0001é\U0001f600'
    tools = read_tools([tool(parameters={"properties": {"a": {"const": value}}, "required": ["a"]})])
    text, _ = random_answer(
        compiler.tool_calls(tools, form, is_required=True, is_parallel=False), function_tokenizer, 0
    )
    (call,) = parse_tool_calls(form.parser(tools), text)[1]
    assert json.loads(call.arguments) == {"a": value}
    for wrong in ({"properties": {"a": {"const": "\ud800"}}}, {"properties": {"a": {"enum": ["x" * 140_000]}}}):
        with pytest.raises(UsageError, match="tools"):
            compiler.tool_calls(read_tools([tool(parameters=wrong)]), form)


def test_constraints_of_one_grammar_are_apart(compiler, tokenizer):
    first, second = compiler.regex("ab"), compiler.regex("ab")
    first.push(tokenizer.encode("a", add_bos=False))
    assert allowed_ids(first) != allowed_ids(second)


def test_grammars_of_long_ago_are_forgotten_and_compiled_again(compiler):
    for i in range(80):
        assert compiler.regex(f"{i}x")
    assert compiler.regex("0x").forced()


def test_a_compiler_serves_several_threads(tokenizer):
    compiler, answers = GrammarCompiler(tokenizer, [1]), []
    threads = [
        threading.Thread(
            target=lambda i=i: answers.append(random_answer(compiler.regex(f"[a-z]{{{i}}}"), tokenizer, i))
        )
        for i in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(text) for text, _ in answers) == list(range(1, 9))


@pytest.mark.parametrize("is_parallel", [False, True], ids=["one", "several"])
@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
def test_required_calls_can_be_read_and_obey_their_schema(form, is_parallel, function_tokenizer):
    compiler = GrammarCompiler(function_tokenizer, [1])
    tools = read_tools([tool(), tool("get_time", None), tool("a.b/c:d-e", {"type": "object", "properties": {}})])
    numbers = set()
    for seed in range(25):
        constraint = compiler.tool_calls(tools, form, is_required=True, is_parallel=is_parallel)
        text, is_complete = random_answer(constraint, function_tokenizer, seed)
        content, calls = parse_tool_calls(form.parser(tools), text)
        assert (is_complete, content) == (True, ""), text
        numbers.add(len(calls))
        for call in calls:
            schema = next(each for each in tools if each.name == call.name).arguments_schema
            jsonschema.validate(json.loads(call.arguments), schema)
    assert numbers == {1} if not is_parallel else max(numbers) > 1


@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
@pytest.mark.parametrize("lead", ["", "I look it up.\n", " \n\n"], ids=["at once", "after text", "after space"])
def test_free_text_turns_into_calls_where_one_begins(form, lead, function_tokenizer):
    compiler = GrammarCompiler(function_tokenizer, stop_token_ids(function_tokenizer))
    tools = read_tools([tool(), tool("get_time", None)])
    begun = {"gemma": '{"name":"get_weather"', "functiongemma": f"{BEGIN}call:get_w"}[form.name]
    for seed in range(10):
        constraint = compiler.tool_calls(tools, form)
        assert set(stop_token_ids(function_tokenizer)) <= set(allowed_ids(constraint))
        assert constraint.forced() == []
        constraint.push(function_tokenizer.encode(lead + begun, parse_special=True, add_bos=False))
        assert not constraint.is_finished
        text, is_complete = random_answer(constraint, function_tokenizer, seed)
        content, calls = parse_tool_calls(form.parser(tools), lead + begun + text)
        assert is_complete
        assert content == (lead.rstrip() if form.name == "gemma" else lead)
        assert calls[0].name == "get_weather"
        jsonschema.validate(json.loads(calls[0].arguments), WEATHER)


def test_free_text_is_free(function_tokenizer):
    constraint = GrammarCompiler(function_tokenizer, [1]).tool_calls(read_tools([tool()]), GemmaToolFormat())
    text = 'A list:\n[1, 2]\n{"name": "Bob"}\n```json\n{"name": "get_time", "parameters": {}}\n```\nFine.'
    constraint.push(function_tokenizer.encode(text, add_bos=False))
    assert not constraint.is_finished
    special = function_tokenizer.special_token_ids
    assert set(allowed_ids(constraint)) & special == {1}
    for token_id in (2, -1, 10**6):
        with pytest.raises(UsageError, match=f"tools: token id {token_id} was pushed"):
            constraint.push([token_id])


@pytest.mark.parametrize("form", [GemmaToolFormat(), FunctionGemmaToolFormat()], ids=lambda form: form.name)
def test_only_strict_tools_need_a_schema_that_can_be_enforced(form, function_tokenizer):
    compiler = GrammarCompiler(function_tokenizer, [1])
    parameters = {"type": "object", "properties": {"a": {"type": "array", "items": {}, "uniqueItems": True}}}
    assert compiler.tool_calls(read_tools([tool(parameters=parameters)]), form).allowed().any()
    with pytest.raises(UsageError, match="uniqueItems"):
        compiler.tool_calls(read_tools([tool(parameters=parameters, strict=True)]), form)


@pytest.fixture(scope="module")
def lm(engine, write_tiny_model, tmp_path_factory):
    """A tiny random model on the engine of the process."""
    lm = gemcut.load(write_tiny_model(tmp_path_factory.mktemp("constraints") / "model"), engine=engine)
    yield lm
    lm.close()


@pytest.mark.backend
def test_every_engine_obeys(lm):
    schema = {"type": "array", "items": {"enum": ["red", "blue", 1.5, None]}, "minItems": 2, "maxItems": 4}
    options = {"json_schema": schema, "max_tokens": 60, "temperature": 1.0, "seed": 5}
    samples = lm.generate("the house", n=2, **options)
    for completion in samples:
        jsonschema.validate(json.loads(completion.text), schema)
        assert completion.finish_reason == "stop"
    assert "".join(piece.text for piece in lm.stream("the house", **options)) == samples[0].text
    assert lm.generate("the house", regex="x{7}", max_tokens=60).text == "xxxxxxx"
    assert lm.generate("the house", grammar='start: "yes" | "no"', max_tokens=60).text in ("yes", "no")


@pytest.mark.backend
def test_what_has_no_bound_is_cut_off(lm):
    completion = lm.generate("the house", json_schema={"type": "string", "minLength": 500}, max_tokens=60)
    assert (completion.finish_reason, completion.usage["completion_tokens"]) == ("length", 60)
    assert completion.text.startswith('"')


@pytest.mark.backend
def test_forms_do_not_go_together(lm):
    with pytest.raises(UsageError, match="json_schema, regex, grammar: found more than one"):
        lm.generate("a", regex="a", grammar="start: /a/")
