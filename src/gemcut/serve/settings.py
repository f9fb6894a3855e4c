"""What a server is told when it starts."""

from __future__ import annotations

import dataclasses
import ipaddress

from gemcut.errors import UsageError

DEFAULT_PORT = 8000


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """How a server listens, whom it lets in, and how much it takes on.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 takes any free one.
        api_keys: Keys that open it; none lets everyone in.
        allow_no_auth: Listen beyond this machine without a key.
        allow_origins: Origins of web pages that may call it, such as "https://chat.example.org"; "*" is any.
        allow_hosts: Names it may be called by beside its own.
        parallel: Texts that are generated side by side.
        max_waiting: Texts that may wait for their turn.
        max_body_bytes: Longest request body.
        max_seconds: Time a request may take; None for any.
        keep_alive_seconds: A stream that has had nothing to say for so long sends a comment; 0 for never.
        stall_seconds: A client that reads nothing for so long is let go.
        drain_seconds: How long running requests may go on after SIGTERM.
        log_format: "text" or "json".
        log_prompts: Log prompts and answers.
        vllm_metric_names: Also give the gauges that gateways read under vLLM's names.

    Raises:
        UsageError: a host beyond this machine without a key.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_keys: tuple[str, ...] = ()
    allow_no_auth: bool = False
    allow_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    parallel: int = 8
    max_waiting: int = 128
    max_body_bytes: int = 4 << 20
    max_seconds: float | None = None
    keep_alive_seconds: float = 15.0
    stall_seconds: float = 30.0
    drain_seconds: float = 30.0
    log_format: str = "text"
    log_prompts: bool = False
    vllm_metric_names: bool = False

    def __post_init__(self) -> None:
        if any(not key for key in self.api_keys):
            raise UsageError("--api-key is empty, expected a key. Give one, or leave it out.")
        if not self.is_local and not self.api_keys and not self.allow_no_auth:
            raise UsageError(
                f"--host {self.host}: others than this machine could use the model, and no key is set. "
                "Give --api-key KEY (or GEMCUT_API_KEY), or --no-auth to let everyone in."
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine itself."""
    name = host.lower().removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
