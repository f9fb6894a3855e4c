"""Who comes in: keys, host names, origins of web pages; and what a refused request can reach: nothing."""

import http.client
import json
import time

import openai
import pytest

pytestmark = pytest.mark.native

KEY = "a key with ümlaut"


@pytest.fixture(scope="module")
def locked(start):
    """A server with two keys."""
    with start(api_keys=("first", KEY)) as server:
        yield server


def ask(server, head, body=b""):
    """The first line of the answer to a request as it is."""
    with server.connect() as connection:
        connection.sendall(head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body)
        return connection.recv(4096).partition(b"\r\n")[0].decode()


def send_on(connection, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.sendall(b"x" * 1000)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="none"),
        pytest.param("Bearer wrong", id="wrong"),
        pytest.param("Bearer firs", id="shorter"),
        pytest.param("Bearer first2", id="longer"),
        pytest.param("Bearer", id="bare"),
        pytest.param("Basic first", id="basic"),
        pytest.param("first", id="no-scheme"),
        pytest.param("Bearer first, Bearer first", id="list"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/tokenize", "/nope"])
def test_without_a_key_nothing_answers(locked, value, path):
    headers = {"Authorization": value} if value is not None else {}
    response = locked.client.post(path, json={"messages": [], "prompt": "Hi"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"] == {
        "message": 'Authorization: no valid key, expected "Bearer KEY" with a key of this server.',
        "type": "authentication_error",
        "param": None,
        "code": "invalid_api_key",
    }


@pytest.mark.parametrize("value", ["Bearer first", "bearer first", f"Bearer {KEY}"], ids=["first", "lower", "second"])
def test_a_key_opens(locked, value):
    response = locked.client.get("/v1/models", headers={"Authorization": value.encode()})
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/v1/%2e%2e/health", "//health", "/health/", "/health%00", "/page/..", "/HEALTH"])
def test_no_way_around_the_key(locked, path):
    status = ask(locked, f"GET {path} HTTP/1.1\nHost: localhost".encode()).split()[1]
    assert status == ("404" if path.startswith("/page/") else "401")


def test_two_keys_in_one_request_are_none(locked):
    head = b"GET /v1/models HTTP/1.1\nHost: x\nAuthorization: Bearer wrong\nAuthorization: Bearer first"
    assert ask(locked, head.replace(b"Host: x", b"Host: localhost")) == "HTTP/1.1 401 Unauthorized"


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/openapi.json", "/", "/page/app.js"])
def test_open_without_a_key(locked, path):
    assert locked.client.get(path).status_code == 200


WRONG = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n"]
)
def test_a_wrong_key_is_told_before_the_body_comes_and_ends_the_connection(locked, framing):
    with locked.connect() as connection:
        begin = time.monotonic()
        connection.sendall(WRONG + framing)
        status, headers, body = locked.read_all(connection)
        assert time.monotonic() - begin < 1
    assert (status, headers["connection"], json.loads(body)["error"]["code"]) == (401, "close", "invalid_api_key")
    assert locked.server.num_working == 0


def test_a_refused_client_cannot_hold_its_connection(start, monkeypatch):
    """What it sends after its answer is thrown away for a moment; then nobody is there."""
    monkeypatch.setattr("gemcut.serve.http_protocol.LINGER_SECONDS", 0.2)
    with start(api_keys=("k",)) as server, server.connect() as connection:
        connection.sendall(WRONG + b"Content-Length: 1000000000000\r\n\r\n")
        assert server.read_all(connection)[0] == 401
        with pytest.raises(ConnectionError):
            send_on(connection, 20)


@pytest.mark.parametrize("size", [10, 20_000_000], ids=["small", "large"])
def test_real_clients_read_why_they_are_refused(locked, size):
    """They send all of a body before they read."""
    with pytest.raises(openai.AuthenticationError, match="no valid key"):
        openai.OpenAI(base_url=f"{locked.url}/v1", api_key="wrong", max_retries=0).completions.create(
            model="tiny", prompt="x" * size
        )
    response = locked.client.post("/tokenize", content=b"x" * size, headers={"Authorization": "Bearer wrong"})
    assert response.status_code == 401
    connection = http.client.HTTPConnection("127.0.0.1", int(locked.url.rpartition(":")[2]), timeout=20)
    connection.request("POST", "/tokenize", body=b"x" * size)
    assert connection.getresponse().status == 401
    connection.close()


def test_a_known_client_keeps_its_connection(locked):
    """Also after an error, as long as its body was read."""
    headers = {"Authorization": "Bearer first"}
    for content, path, kept in ((b"{", "/tokenize", True), (b"", "/nope", True), (b"{}", "/nope", False)):
        response = locked.client.post(path, content=content, headers=headers)
        assert response.status_code in (400, 404)
        assert (response.headers.get("connection") != "close") == kept


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("127.0.0.1", 200, id="address"),
        pytest.param("127.0.0.1:8000", 200, id="port"),
        pytest.param("localhost:1", 200, id="localhost"),
        pytest.param("my.localhost", 200, id="sub"),
        pytest.param("[::1]:8000", 200, id="ipv6"),
        pytest.param("models.example.org", 200, id="allowed"),
        pytest.param("evil.example.com", 403, id="other"),
        pytest.param("127.0.0.1.evil.com", 403, id="prefix"),
        pytest.param("localhost.evil.com", 403, id="localhost-prefix"),
        pytest.param("evil-localhost", 403, id="suffix"),
        pytest.param("192.168.0.1", 403, id="other-address"),
        pytest.param("localhost@evil.com", 400, id="user"),
        pytest.param("localhost:80:90", 400, id="ports"),
        pytest.param("localhost/evil", 400, id="path"),
        pytest.param("", 400, id="empty"),
    ],
)
def test_names_of_a_local_server(start, host, status):
    """A page of another site can make a name lead to 127.0.0.1; its requests still bear that name."""
    with start(allow_hosts=("models.example.org",)) as server:
        line = ask(server, b"GET /health HTTP/1.1\nHost: " + host.encode())
    assert int(line.split()[1]) == status


def test_forwarded_names_mean_nothing(served):
    headers = {"X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1", "Host": "evil.example.com"}
    assert served.client.get("/health", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param(None, 200, id="none"),
        pytest.param("own", 200, id="own"),
        pytest.param("https://good.example", 200, id="allowed"),
        pytest.param("https://evil.example", 403, id="other"),
        pytest.param("https://good.example.evil.com", 403, id="prefix"),
        pytest.param("http://[", 403, id="no-address"),
        pytest.param("null", 403, id="null"),
    ],
)
def test_origins_of_pages(start, origin, status):
    with start(allow_origins=("https://good.example",)) as server:
        headers = {} if origin is None else {"Origin": server.url if origin == "own" else origin}
        response = server.client.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 1}, headers=headers)
        assert response.status_code == status
        shared = response.headers.get("access-control-allow-origin")
        assert shared == ("https://good.example" if origin == "https://good.example" else None)


def test_pages_ask_first(start):
    ask_first = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    with start(allow_origins=("https://good.example",), api_keys=("k",)) as server:
        response = server.client.options("/v1/chat/completions", headers=ask_first)
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, "https://good.example")
        refused = server.client.post("/v1/completions", headers={"Origin": "https://good.example"})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "https://good.example"
    with start() as server:
        assert server.client.options("/v1/chat/completions", headers=ask_first).status_code == 403


LOCAL = b" HTTP/1.1\nHost: localhost\n"


@pytest.mark.parametrize(
    ("head", "status", "message"),
    [
        pytest.param(b"GET http://evil.example/health" + LOCAL, 404, "there is no such path", id="absolute"),
        pytest.param(b"GET [" + LOCAL, 404, "GET [: there is no such path", id="bracket"),
        pytest.param(b"GET //[" + LOCAL, 404, "GET //[: there is no such path", id="bracket-host"),
        pytest.param(b"GET /%ff%00" + LOCAL, 404, "there is no such path", id="bytes"),
        pytest.param(b"GET /health" + LOCAL + b"Host: evil.example\n", 400, "multiple Host:", id="two-hosts"),
        pytest.param(b"GET /health\n", 400, "illegal request line", id="no-version"),
        pytest.param(b"GET /health HTTP/1.1\n", 400, "Missing mandatory Host: header", id="no-host"),
        pytest.param(b"GET /h\xc3\xa9" + LOCAL, 400, "illegal request line", id="not-ascii"),
        pytest.param(b"GET /health" + LOCAL + b"X A: b\n", 400, "illegal header line", id="header-name"),
        pytest.param(b"GET /health" + LOCAL + b"X-A: a\0b\n", 400, "illegal header line", id="null-byte"),
        pytest.param(b"GET /health" + LOCAL + b"X-A: " + b"a" * 1_000_000, 431, "Receive buffer too long", id="long"),
        pytest.param(
            b"POST /tokenize" + LOCAL + b"Content-Length: 5\nContent-Length: 6\n", 400, "Content-Length", id="lengths"
        ),
        pytest.param(b"POST /tokenize" + LOCAL + b"Content-Length: -1\n", 400, "bad Content-Length", id="negative"),
        pytest.param(
            b"POST /tokenize" + LOCAL + b"Transfer-Encoding: odd\n",
            501,
            "Only Transfer-Encoding: chunked is supported",
            id="encoding",
        ),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, "illegal request line", id="tls"),
    ],
)
def test_what_is_no_request_is_refused_in_the_one_shape(served, head, status, message):
    with served.connect() as connection:
        connection.sendall(head.replace(b"\n", b"\r\n") + b"Connection: close\r\n\r\n")
        found, headers, body = served.read_all(connection)
    error = json.loads(body)["error"]
    assert (found, headers["content-type"], error.keys()) == (
        status,
        "application/json",
        {"message", "type", "param", "code"},
    )
    assert message in error["message"]
    assert served.client.get("/health").status_code == 200


def test_a_body_that_breaks_off_into_nonsense_is_refused(served):
    with served.connect() as connection:
        connection.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        status, _, body = served.read_all(connection)
    assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")
    served.until(lambda: served.server.num_working == 0)


def test_a_host_beyond_this_machine_needs_a_key():
    from gemcut.errors import UsageError
    from gemcut.serve import ServerSettings

    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(UsageError, match="no key is set. Give --api-key KEY"):
            ServerSettings(host=host)
        assert not ServerSettings(host=host, api_keys=("k",)).is_local
        assert ServerSettings(host=host, allow_no_auth=True)
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"):
        assert ServerSettings(host=host).is_local
    with pytest.raises(UsageError, match="--api-key is empty"):
        ServerSettings(api_keys=("",))
