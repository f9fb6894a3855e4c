"""Every exception Gemcut raises on purpose, with its process exit code and HTTP status.

A message says where (file, tensor, field or flag), what was found, what was expected and what to do.
Foreign exceptions are translated once, at the border; a user's mistake never ends in a traceback.
"""


class GemcutError(Exception):
    """Root of Gemcut's exceptions: the work failed."""

    exit_code = 1
    http_status = 500


class UsageError(GemcutError, ValueError):
    """The call or the command line asks for something that makes no sense."""

    exit_code = 2
    http_status = 400


class ContextLengthError(UsageError):
    """A prompt, or a prompt with its answer, does not fit the model's context."""


class QueueFullError(GemcutError, RuntimeError):
    """As many texts wait already as may wait; later there will be room."""

    http_status = 429


class ConfigError(GemcutError, ValueError):
    """A model configuration is incomplete, contradictory or not supported."""

    exit_code = 3


class CheckpointError(GemcutError, ValueError):
    """A weights file is unreadable, damaged, or does not belong to its configuration."""

    exit_code = 3


class DataError(GemcutError, ValueError):
    """A prompt, text or data file cannot be read as what it should be."""

    exit_code = 3
    http_status = 400


class TokenizerError(GemcutError, ValueError):
    """A tokenizer file is unreadable or does not belong to its model."""

    exit_code = 3


class TemplateError(GemcutError, ValueError):
    """A chat template refuses the conversation, or is broken or unsafe."""

    exit_code = 3
    http_status = 400


class NotFoundError(GemcutError, LookupError):
    """A model, file or name does not exist on this machine."""

    exit_code = 4
    http_status = 404


class DivergedError(GemcutError, ArithmeticError):
    """Training came to a loss or a gradient that is no number; the state before that is kept."""


class DownloadError(GemcutError, OSError):
    """A hub refused, could not be reached, or sent something else than it announced; or there is no room for it."""

    http_status = 502


class BackendError(GemcutError, RuntimeError):
    """A backend or engine is missing, broken, or cannot do what was asked."""


class MissingExtraError(BackendError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
