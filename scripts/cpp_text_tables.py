"""The text tables that C++ shares with Python, written from the Python side; with --check, compares and writes nothing.

The chat formats are read off the built-in Jinja templates, by rendering small conversations with them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import gemcut
from gemcut.errors import TemplateError
from gemcut.text import builtin_templates, special_tokens
from gemcut.text.template_sandbox import TemplateSandbox

CPP = Path(__file__).resolve().parents[1] / "cpp"
HEADER = """// {title} Written by scripts/cpp_text_tables.py from src/gemcut/text; do not edit.
#pragma once

#include <string_view>

namespace gemcut {{

"""
FOOTER = "\n}  // namespace gemcut\n"
BOS, EOS = "{bos}", "{eos}"
SLOT = re.compile("(\t?)([SUAV])(\t?)")  # a message's content, and the white space around it that was left
FORMAT = """// How a family writes a conversation: the texts between contents, control tokens as their pieces, {bos}
// and {eos} for the reserved ones. An empty system_before: the family has no system role.
struct ChatFormat {
  std::string_view model_type;
  std::string_view needed_piece;  // only vocabularies with this control token have the format; empty: any
  std::string_view first_before, user_assistant, assistant_user, last_after;
  std::string_view system_before, system_user;
  struct Trim {
    bool left, right;
  };
  Trim user, assistant, system, user_after_system;  // white space that is cut off a content
};
"""


@dataclasses.dataclass(frozen=True)
class Chat:
    """One row of the table."""

    model_type: str
    needed_piece: str
    texts: tuple[str, ...]
    trims: tuple[tuple[bool, bool], ...]


def main() -> int:
    """Write the headers, or say which differ."""
    targets = {
        CPP / "formats" / "tokenizer_tables.h": pieces(),
        CPP / "engine" / "chat_tables.h": chats(),
        CPP / "cli" / "version.h": version(),
    }
    differ = [path for path, text in targets.items() if not path.is_file() or path.read_text("utf-8") != text]
    if "--check" not in sys.argv[1:]:
        for path in differ:
            path.write_text(targets[path], "utf-8")
        return 0
    for path in differ:
        print(f"{path.name} differs from gemcut.text. Run: python scripts/cpp_text_tables.py", file=sys.stderr)
    return 1 if differ else 0


def pieces() -> str:
    """formats/tokenizer_tables.h."""
    tags = re.fullmatch(r"</\?\((.*)\)>", special_tokens._HTML_TAG.pattern)
    assert tags, "the pattern of HTML tags has another form"
    names = [name for tag in tags[1].split("|") for name in _expanded(tag)]
    spaces = [chr(code) for code in range(0x110000) if chr(code).isspace()]
    return (
        HEADER.format(title="Pieces and characters that mean something.")
        + _list("Tags of Gemma's vocabularies that are text and not control tokens.", "kHtmlTags", names)
        + _list("Control tokens that end an answer.", "kEndPieces", special_tokens._END_PIECES)
        + _list("Characters that count as white space.", "kWhitespace", spaces)
        + FOOTER.lstrip("\n")
    )


def chats() -> str:
    """engine/chat_tables.h."""
    rows = [_chat(model_type, name) for model_type, name in builtin_templates._FILES.items()]
    # The piece that is needed makes a format the exception, so it comes before the rule.
    rows = [
        _chat(row.model_type, "function_gemma", builtin_templates._FUNCTION_GEMMA_PIECE)
        for row in rows
        if builtin_templates._FILES[row.model_type] == "gemma3"
    ] + rows
    body = "".join(f"    {_row(row)},\n" for row in rows)
    table = f"\ninline constexpr ChatFormat kChatFormats[] = {{\n{body}}};\n"
    return HEADER.format(title="Chat formats of the families.") + FORMAT + table + FOOTER


def version() -> str:
    """cli/version.h."""
    line = f"inline constexpr std::string_view kVersion = {_text(gemcut.__version__)};\n"
    return HEADER.format(title="The version of this release.").replace("src/gemcut/text", "src/gemcut") + line + FOOTER


def _chat(model_type: str, name: str, needed_piece: str = "") -> Chat:
    user, answer, again, system = (
        {"role": role, "content": f"\t{slot}\t"}
        for role, slot in (("user", "U"), ("assistant", "A"), ("user", "V"), ("system", "S"))
    )
    texts, trims = _slots(_render(name, [user, answer, again]))
    assert trims[0] == trims[2], f"{name}: two user turns are trimmed differently"
    assert _slots(_render(name, [user]))[0] == [texts[0], texts[3]], f"{name}: the last turn differs"
    try:
        with_system, system_trims = _slots(_render(name, [system, user, answer, again]))
        assert with_system[2:] == texts[1:], f"{name}: the system text changes later turns"
    except TemplateError:
        with_system, system_trims = ["", ""], [(False, False)] * 2
    return Chat(
        model_type, needed_piece, (*texts, *with_system[:2]), (trims[0], trims[1], system_trims[0], system_trims[1])
    )


def _render(name: str, messages: list[dict[str, str]]) -> str:
    def refuse(message: str) -> None:
        raise TemplateError(message)

    sandbox = TemplateSandbox({"tojson": json.dumps})
    sandbox.globals["raise_exception"] = refuse
    template = sandbox.from_string(builtin_templates._read(name))
    return template.render(messages=messages, bos_token=BOS, eos_token=EOS, add_generation_prompt=True)


def _slots(text: str) -> tuple[list[str], list[tuple[bool, bool]]]:
    """The texts around the contents, and on which sides each content was trimmed."""
    texts, trims, done = [], [], 0
    for match in SLOT.finditer(text):
        if not _is_content(text, match):
            continue
        texts.append(text[done : match.start()])
        trims.append((not match[1], not match[3]))
        done = match.end()
    return [*texts, text[done:]], trims


def _is_content(text: str, match: re.Match[str]) -> bool:
    """Whether a capital letter stands alone, and is not part of a marker such as [INST]."""
    around = text[max(0, match.start(2) - 1) : match.start(2)] + text[match.end(2) : match.end(2) + 1]
    return not any(character.isalpha() for character in around)


def _expanded(tag: str) -> list[str]:
    """A tag's name, or several where it ends in a range like h[1-6]."""
    span = re.fullmatch(r"(\w+)\[(\d)-(\d)\]", tag)
    return [f"{span[1]}{digit}" for digit in range(int(span[2]), int(span[3]) + 1)] if span else [tag]


def _row(chat: Chat) -> str:
    texts = list(map(_text, (chat.model_type, chat.needed_piece, *chat.texts)))
    trims = ", ".join("{" + ", ".join(str(side).lower() for side in sides) + "}" for sides in chat.trims)
    lines = [", ".join(texts[start : start + 2]) for start in range(0, len(texts), 2)]
    return "{" + ",\n     ".join([*lines, trims]) + "}"


def _list(comment: str, name: str, texts: Any) -> str:
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(_text(text)) > 110:
            lines.append(line)
            line = "   "
        line += f" {_text(text)},"
    body = "\n".join([*lines, line])
    return f"// {comment}\ninline constexpr std::string_view {name}[] = {{\n{body}\n}};\n\n"


def _text(text: str) -> str:
    """A C++ literal of the UTF-8 bytes."""
    shown = {0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x22: '\\"', 0x5C: "\\\\"}
    return '"' + "".join(shown.get(b) or (chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in text.encode()) + '"'


if __name__ == "__main__":
    sys.exit(main())
