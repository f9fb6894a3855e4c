"""Models over HTTP, as OpenAI's interface has it."""

from gemcut.errors import MissingExtraError

try:
    from gemcut.serve.loading import adapter_of, load_served, served_name
    from gemcut.serve.process import serve
    from gemcut.serve.settings import ServerSettings
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "gemcut":
        raise
    raise MissingExtraError(
        f'{error.name}, which the server stands on, is not installed. Run: pip install "gemcut[serve]"'
    ) from None

__all__ = ["ServerSettings", "adapter_of", "load_served", "serve", "served_name"]
