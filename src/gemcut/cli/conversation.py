"""A conversation at the terminal: its messages, its slash commands, and reading what the user types."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from gemcut.errors import NotFoundError, UsageError
from gemcut.files import atomic_write_text, read_json

HELP = """\
/reset        forget the conversation
/undo         take back the last question and its answer
/system TEXT  set the system instruction and start anew; without TEXT, remove it
/save FILE    write the conversation as JSON
/load FILE    read it back
/help         this list
/exit         leave (so do Ctrl-D, and Ctrl-C at the prompt)
A line that begins with // is sent as it is, with one slash less. A line that
ends in a backslash goes on in the next. \"\"\" begins and ends a message of
several lines. Ctrl-C stops an answer."""

_ROLES = ("user", "assistant", "tool", "system", "developer")


class Conversation:
    """What was said so far.

    Attributes:
        system: The system instruction, or None.
        messages: OpenAI-style messages, the system's not included; a question waits for its answer at the end.
    """

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.messages: list[dict[str, Any]] = []

    def ask(self, text: str) -> None:
        """Append the user's message."""
        self.messages.append({"role": "user", "content": text})

    def answer(self, text: str) -> None:
        """Append the model's answer; an empty one takes the question back, since templates want turns in pairs."""
        if text:
            self.messages.append({"role": "assistant", "content": text})
        else:
            self.undo()

    def undo(self) -> bool:
        """Remove the last question and all after it; False when there is none."""
        for index in reversed(range(len(self.messages))):
            if self.messages[index]["role"] == "user":
                del self.messages[index:]
                return True
        return False

    def command(self, line: str) -> str:
        """Carry out a slash command other than /exit; returns what to tell the user.

        Raises:
            UsageError: no such command, or its argument is missing.
            GemcutError: a file cannot be read or written.
        """
        name, _, argument = line.partition(" ")
        argument = argument.strip()
        if name in ("/save", "/load") and not argument:
            raise UsageError(f"{name} needs the name of a file: {name} FILE")
        match name:
            case "/help":
                return HELP
            case "/reset":
                self.messages.clear()
                return "The conversation is empty."
            case "/undo":
                return "Took back the last question." if self.undo() else "There is nothing to take back."
            case "/system":
                self.system = argument or None
                self.messages.clear()
                state = "is set" if argument else "is removed"
                return f"The system instruction {state}; the conversation is empty."
            case "/save":
                self.save(Path(argument).expanduser())
                return f"Saved {len(self.messages)} messages to {argument}."
            case "/load":
                self.load(Path(argument).expanduser())
                return f"Loaded {len(self.messages)} messages from {argument}."
        raise UsageError(f"{name}: no such command. /help lists them; begin a message with // to send a slash.")

    def save(self, path: Path) -> None:
        """Write the conversation as JSON, whole or not at all."""
        content = {"system": self.system, "messages": self.messages}
        atomic_write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")

    def load(self, path: Path) -> None:
        """Replace the conversation by a saved one; a bad file changes nothing.

        Raises:
            NotFoundError: there is no such file.
            UsageError: it is not a saved conversation.
        """
        if not path.exists():
            raise NotFoundError(f"{path}: no such file. Check the path.")
        content = read_json(path, error=UsageError)
        messages = content.get("messages") if isinstance(content, dict) else None
        system = content.get("system") if isinstance(content, dict) else None
        if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
            raise UsageError(f'{path}: not a conversation, expected {{"messages": [{{"role", "content"}}, ...]}}.')
        if system is not None and not isinstance(system, str):
            raise UsageError(f"{path}: system is {type(system).__name__}, expected text or null.")
        self.system, self.messages = system, messages


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict) and message.get("role") in _ROLES and isinstance(message.get("content"), (str, list))
    )


def read_message(prompt: str = "> ") -> str:
    """One message from the user, over several lines if it says so.

    Raises:
        EOFError: input has ended.
        KeyboardInterrupt: Ctrl-C at the prompt.
    """
    line = _read_line(prompt)
    if line.strip() == '"""':
        return _read_block("")
    if line.startswith('"""'):
        return _read_block(line[3:])
    lines = []
    while line.endswith("\\"):
        lines.append(line[:-1])
        line = _read_line(". ")
    return "\n".join([*lines, line])


def _read_block(first: str) -> str:
    """Lines up to the closing quotes, which may end a line of text."""
    lines, line = [], first
    while not line.rstrip().endswith('"""'):
        lines.append(line)
        line = _read_line(". ")
    lines.append(line.rstrip()[:-3])
    return "\n".join(lines).strip("\n")


def _read_line(prompt: str) -> str:
    """A line without its newline; the prompt shows on a terminal only, and never in redirected output."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        _enable_editing()
        return input(prompt)
    if sys.stdin.isatty():
        sys.stderr.write(prompt)
        sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _enable_editing() -> None:
    """Give input() line editing and history, which importing readline does, where the platform has it."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
