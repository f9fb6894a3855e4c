"""What a text may say: JSON schemas, regular expressions, grammars and tool calls, compiled by llguidance."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gemcut.errors import GemcutError, MissingExtraError, UsageError
from gemcut.text import IncrementalDetokenizer, Tokenizer
from gemcut.text.json_spacing import SPACING, json_options
from gemcut.text.tool_calls import Tool, ToolCallParser, ToolFormat

if TYPE_CHECKING:
    import llguidance

MAX_GRAMMAR_BYTES = 131_072
_COMPILING_STACK_BYTES = 1 << 28
# Parts of the vocabulary that a mask takes over whole: strings of JSON of up to so many characters. The library's own
# choice has spaces, too, which are never many here; each part costs a tenth of a second when a model is prepared.
_STRING_CHARACTER = r'[^"\\\x00-\x1F\x7F]'
_SLICES = ("{1,10}", "{1,30}", "+")
_NUL = "\x00"  # a byte piece of its own in every vocabulary: what follows it is no beginning of a text
_KEPT_GRAMMARS = 64
_stack_lock = threading.Lock()  # the size of new stacks is the process's


class GrammarCompiler:
    """Compiles constraints for one model's vocabulary.

    The vocabulary is prepared at the first use. Compiled grammars are kept, so the same schema again costs nothing.
    May be used from several threads.

    Args:
        tokenizer: Whose ids the constraints allow.
        stop_token_ids: Ids that end a text; at least one.

    Raises:
        UsageError: there is no stop id.
    """

    def __init__(self, tokenizer: Tokenizer, stop_token_ids: Sequence[int]) -> None:
        if not stop_token_ids:
            raise UsageError("stop_token_ids: found none, expected at least one: a constrained text ends with one.")
        self._tokenizer, self._stop_token_ids = tokenizer, tuple(stop_token_ids)
        self._compiled: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def json_schema(self, schema: Mapping[str, Any] | bool, *, spacing: str = "optional") -> GrammarConstraint:
        """JSON that a schema allows, its properties in the schema's order.

        Args:
            schema: Draft 2020-12; `true` allows any JSON. What llguidance cannot enforce is refused.
            spacing: After a comma and a colon "none", "one" or an "optional" space; elsewhere there is never any.

        Raises:
            UsageError: the schema is no JSON, too large, or has keywords that cannot be enforced.
        """
        if spacing not in SPACING:
            raise UsageError(f"spacing is {spacing!r}, expected one of {', '.join(map(repr, SPACING))}.")
        where = "json_schema"
        if not isinstance(schema, Mapping | bool):
            raise UsageError(f"{where}: found a {type(schema).__name__}, expected a JSON schema: an object.")
        text = _checked_schema(schema if isinstance(schema, Mapping) else {} if schema else {"enum": []}, where)
        with _translated(where):
            grammar = _llguidance().LLMatcher.grammar_from_json_schema(text, overrides=json_options(spacing))
        return self._constraint(grammar, where)

    def json_object(self, *, spacing: str = "optional") -> GrammarConstraint:
        """Any JSON object; arguments as in `json_schema`."""
        return self.json_schema({"type": "object"}, spacing=spacing)

    def regex(self, pattern: str) -> GrammarConstraint:
        """Text that a pattern matches from its first to its last character.

        Args:
            pattern: As Rust's regex crate has them: no look-around, no back references.

        Raises:
            UsageError: the pattern is not one, too large, or takes too much work.
        """
        checked = _checked_text(pattern, "regex")
        with _translated("regex"):
            compiled = _llguidance().LLMatcher.grammar_from_regex(checked)
        return self._constraint(compiled, "regex")

    def lark(self, grammar: str) -> GrammarConstraint:
        """Text that a grammar allows.

        Args:
            grammar: In llguidance's dialect of Lark, with a rule named `start`.

        Raises:
            UsageError: the grammar is not one, too large, or takes too much work.
        """
        return self._from_lark(_checked_text(grammar, "grammar"), "grammar")

    def tool_calls(
        self, tools: Sequence[Tool], tool_format: ToolFormat, *, is_required: bool = False, is_parallel: bool = True
    ) -> GrammarConstraint | ToolCallConstraint:
        """Calls of tools, or free text that may end with calls.

        Args:
            tools: At least one; `gemcut.text.tool_calls.choose_tools` picks them and says whether a call is required.
            tool_format: How the model writes calls.
            is_required: The answer is a call.
            is_parallel: There may be several calls.

        Raises:
            UsageError: the schema of a tool's arguments cannot be enforced.
        """
        for tool in tools:
            _checked_schema(tool.arguments_schema, f"tools: {tool.name}")
        grammar = _checked_text(tool_format.grammar(tools, is_required=is_required, is_parallel=is_parallel), "tools")
        calls = self._from_lark(grammar, "tools")
        if is_required:
            return calls
        any_text = self._any_text(tool_format.call_token)
        return ToolCallConstraint(calls, any_text, tool_format.parser(tools), self._tokenizer)

    def _any_text(self, call_token: str | None) -> np.ndarray:
        """The mask of free text: everything but control tokens; but a call's first one, and the end."""
        special = self._tokenizer.special_tokens
        bits = np.ones(-(-self._tokenizer.vocab_size // 32) * 32, bool)
        bits[self._tokenizer.vocab_size :] = False
        bits[list(special.values())] = False
        bits[list(self._stop_token_ids)] = True
        if call_token is not None and call_token in special:
            bits[special[call_token]] = True
        return np.packbits(bits, bitorder="little").view(np.uint32)

    @functools.cached_property
    def _vocabulary(self) -> llguidance.LLTokenizer:
        """The vocabulary as llguidance wants it."""
        vocabulary = _Vocabulary(self._tokenizer, self._stop_token_ids[0])
        slices = [f"{_STRING_CHARACTER}{times}" for times in _SLICES]
        prepared = _llguidance().LLTokenizer(vocabulary, slices=slices)
        vocabulary.tokens = []  # they are read once, but the object stays for its calls
        return prepared

    def _from_lark(self, source: str, where: str) -> GrammarConstraint:
        with _translated(where):
            grammar = _llguidance().LLMatcher.grammar_from_lark(source)
        return self._constraint(grammar, where)

    def _constraint(self, grammar: str, where: str) -> GrammarConstraint:
        """A constraint at its beginning."""
        with self._lock, _translated(where):
            compiled = self._compiled.get(grammar)
            if compiled is None:
                compiled = self._compiled[grammar] = _with_large_stack(lambda: self._compile(grammar, where))
            self._compiled.move_to_end(grammar)
            if len(self._compiled) > _KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        return GrammarConstraint(compiled.deep_copy(), self._tokenizer.vocab_size, self._stop_token_ids, where)

    def _compile(self, grammar: str, where: str) -> Any:
        """The matcher of a grammar, with its first token looked for: some grammars show only there that they fail."""
        library = _llguidance()
        limits = library.LLParserLimits(verbose_errors=False)
        matcher = library.LLMatcher(self._vocabulary, grammar, log_level=0, limits=limits)
        first = matcher.deep_copy()
        if not matcher.is_error():
            first.compute_bitmask()
        if first.is_error():
            raise UsageError(f"{where}: {_reason(first)} Correct or simplify it.")
        return matcher


def _with_large_stack(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a thread whose stack holds the deepest grammar of the size that is taken.

    llguidance follows rules that refer to rules by recursion, without a limit of its own: 1,600 schemas each of which
    refers to the next one overflow the usual 8 MiB and end the process.
    """
    with _stack_lock, concurrent.futures.ThreadPoolExecutor(1) as pool:
        before = threading.stack_size(_COMPILING_STACK_BYTES)
        try:
            return pool.submit(work).result()
        finally:
            threading.stack_size(before)


class GrammarConstraint:
    """A compiled constraint and how far a text has come; see `gemcut.interfaces.Constraint`.

    Made by `GrammarCompiler`; for one thread at a time.

    Args:
        matcher: At the beginning.
        vocab_size: V.
        stop_token_ids: Ids that end the text.
        where: What the user gave, for messages.
    """

    def __init__(
        self, matcher: llguidance.LLMatcher, vocab_size: int, stop_token_ids: Sequence[int], where: str
    ) -> None:
        self._matcher, self._where = matcher, where
        self._num_words = -(-vocab_size // 32)
        self._stops = [(token_id // 32, np.uint32(1 << token_id % 32)) for token_id in stop_token_ids]
        self._stop_token_ids = frozenset(stop_token_ids)

    def allowed(self) -> np.ndarray:
        """See `Constraint.allowed`; V is the tokenizer's, without rows that pad an embedding."""
        words = np.empty(self._num_words, np.uint32)
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        self._check()
        may_end = self._matcher.is_accepting()
        for word, bit in self._stops:
            words[word] = words[word] | bit if may_end else words[word] & ~bit
        return words

    def forced(self) -> list[int]:
        """See `Constraint.forced`."""
        return [] if self.is_finished else self._matcher.compute_ff_tokens()

    def push(self, token_ids: Sequence[int]) -> None:
        """See `Constraint.push`; a stop id may come where the text may end."""
        for token_id in token_ids:
            if token_id in self._stop_token_ids:
                taken = self._matcher.is_accepting()
            else:
                taken = self._matcher.try_consume_tokens([token_id]) == 1
            self._check()
            if not taken:
                raise UsageError(f"{self._where}: token id {token_id} was pushed, expected one that `allowed` has.")

    @property
    def is_finished(self) -> bool:
        """See `Constraint.is_finished`."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UsageError(f"{self._where}: {_reason(self._matcher)} Simplify it.")


class ToolCallConstraint:
    """Free text until a call begins; from there on only whole calls. See `gemcut.interfaces.Constraint`.

    Made by `GrammarCompiler`; for one thread at a time.

    Args:
        calls: What the calls obey.
        any_text: The mask of free text.
        parser: Sees where a call begins.
        tokenizer: Of the ids that are pushed.
    """

    def __init__(
        self, calls: GrammarConstraint, any_text: np.ndarray, parser: ToolCallParser, tokenizer: Tokenizer
    ) -> None:
        self._calls, self._any_text, self._parser, self._tokenizer = calls, any_text, parser, tokenizer
        self._detokenizer = IncrementalDetokenizer(tokenizer, skip_special=False, continues_prompt=True)
        self._is_calling = False

    def allowed(self) -> np.ndarray:
        """See `Constraint.allowed`."""
        return self._calls.allowed() if self._is_calling else self._any_text

    def forced(self) -> list[int]:
        """See `Constraint.forced`."""
        return self._calls.forced() if self._is_calling else []

    def push(self, token_ids: Sequence[int]) -> None:
        """See `Constraint.push`."""
        for token_id in token_ids:
            if self._is_calling:
                self._calls.push([token_id])
            elif not self._is_text(token_id):
                raise UsageError(f"tools: token id {token_id} was pushed, expected one that `allowed` has.")
            else:
                self._parser.push(self._detokenizer.push(token_id))
                if begun := self._parser.begun_call:
                    self._calls.push(_ids_within_text(self._tokenizer, begun, parse_special=True))
                    self._is_calling = True

    @property
    def is_finished(self) -> bool:
        """See `Constraint.is_finished`."""
        return self._is_calling and self._calls.is_finished

    def _is_text(self, token_id: int) -> bool:
        """Whether a token may stand in free text, or begin a call."""
        word, bit = divmod(token_id, 32)
        return 0 <= word < len(self._any_text) and bool(self._any_text[word] >> bit & 1)


class _Vocabulary:
    """A tokenizer as llguidance takes it, by the names that it looks for."""

    is_tokenizer_wrapper = True

    def __init__(self, tokenizer: Tokenizer, end: int) -> None:
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_token_ids)
        self.eos_token_id, self.bos_token_id = end, tokenizer.bos_token_id
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        """Ids of a text that stands within another one."""
        return _ids_within_text(self._tokenizer, text)


def _ids_within_text(tokenizer: Tokenizer, text: str, *, parse_special: bool = False) -> list[int]:
    """Ids of a text that stands within another one, so no tokenizer puts a space before it."""
    start = len(tokenizer.encode(_NUL, add_bos=False))
    return tokenizer.encode(_NUL + text, parse_special, add_bos=False)[start:]


def _llguidance() -> Any:
    """The library, or the error that names the extra."""
    try:
        import llguidance
    except ImportError:
        raise MissingExtraError(
            "constraints: llguidance is not installed. Install it: pip install 'gemcut[serve]'."
        ) from None
    return llguidance


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """What llguidance raises over a user's text as our error; a Rust panic is no Exception."""
    try:
        yield
    except (GemcutError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - see above
        raise UsageError(f"{where}: {str(error)[:500].rstrip('.')}. Correct or simplify it.") from None


def _reason(matcher: Any) -> str:
    """What llguidance says, in one line."""
    said = " ".join(matcher.get_error().replace("<non-verbose/>", "").split())
    return "no text satisfies it." if said.startswith("NoExtension") else said[:500].rstrip(".") + "."


def _checked_schema(schema: Mapping[str, Any], where: str) -> str:
    """A schema as JSON text, if it is JSON of a size that may be compiled."""
    try:
        text = json.dumps({key: value for key, value in schema.items() if key != "x-guidance"}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{where}: it is no JSON ({error!s:.100}), expected a JSON schema.") from None
    return _checked_text(text, where)


def _checked_text(text: str, where: str) -> str:
    """A grammar's source, if it is of a size that may be compiled."""
    if not isinstance(text, str):
        raise UsageError(f"{where}: found a {type(text).__name__}, expected text.")
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError(f"{where}: it holds a lone surrogate, expected text.") from None
    if not 0 < size <= MAX_GRAMMAR_BYTES:
        raise UsageError(f"{where}: it has {size} bytes, expected 1 to {MAX_GRAMMAR_BYTES}.")
    return text
