"""Every host, origin and method is judged as the rules say, by a server that really listens."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from email.message import Message

import pytest
from tests.runs import trainings

from gradreach.report.live.access import Access, own_names
from gradreach.report.live.runs import ServedRuns
from gradreach.report.live.server import open_server
from gradreach.runs.journal import JournalWriter

TOKEN = "a-token"

# What stands in the header, and whether this server goes by it. {port} is its own.
HOSTS = {
    "127.0.0.1:{port}": True,
    "localhost:{port}": True,
    "LOCALHOST:{port}": True,
    "[::1]:{port}": True,
    "evil.example.com:{port}": False,
    "evil.example.com": False,
    "127.0.0.1.evil.com:{port}": False,
    "localhost.:{port}": False,
    "127.0.0.1": False,
    "127.0.0.1:1": False,
    "192.168.0.7:{port}": False,
    None: False,
}
# Origin and Sec-Fetch-Site, and whether they say that our own page asks, or nobody's.
ORIGINS = {
    (None, None): True,
    ("http://{host}", "same-origin"): True,
    (None, "none"): True,
    ("null", None): False,
    ("http://evil.example.com", None): False,
    ("https://{host}", None): False,
    (None, "cross-site"): False,
    ("http://{host}", "same-site"): False,
}
METHODS = {
    "GET": True,
    "HEAD": True,
    "POST": False,
    "PUT": False,
    "DELETE": False,
    "PATCH": False,
    "OPTIONS": False,
}


@pytest.fixture
def run(tmp_path):
    with JournalWriter(tmp_path / "run") as journal:
        for step in range(5):
            journal.row(trainings.row(step))
    return tmp_path / "run"


@pytest.fixture
def server(run):
    server = open_server("127.0.0.1", 0, ServedRuns([run]), TOKEN, own_names("127.0.0.1", ()))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.close()


def asked(server, method, target, headers):
    """Send exactly these headers; return status, headers and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def own_host(server):
    return [("Host", f"127.0.0.1:{server.server_port}")]


def test_every_host_origin_and_method_gets_the_answer_of_the_rules(server):
    wrong = []
    port = server.server_port
    for (host, ours), ((origin, site), same), (method, shows) in itertools.product(
        HOSTS.items(), ORIGINS.items(), METHODS.items()
    ):
        named = None if host is None else host.format(port=port)
        headers = [] if named is None else [("Host", named)]
        if origin is not None:
            headers.append(("Origin", origin.format(host=named)))
        if site is not None:
            headers.append(("Sec-Fetch-Site", site))

        status, _, body = asked(server, method, f"/runs?token={TOKEN}", headers)

        expected = 403 if not (ours and same) else 200 if shows else 405
        leaked = status != 200 and b"r0" in body
        if status != expected or leaked:
            wrong.append((host, origin, site, method, status))

    assert wrong == []
    assert len(HOSTS) * len(ORIGINS) * len(METHODS) == 12 * 8 * 7


@pytest.mark.parametrize(
    "target",
    ["/runs", "/runs?token=", "/runs?token=a-toke", "/runs?token=a-token%20", "/?token=x", "/no"],
)
def test_without_the_token_nothing_is_told(server, target):
    status, _, body = asked(server, "GET", target, own_host(server))

    assert status == 403
    assert b"token is missing or wrong" in body
    assert b"r0" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%252e%252e/x", "/..;/x", "/..\\x",
        "/C:/x", "//server/share", "/\\\\server", "/%00", "/runs/r0", "/run/journal.jsonl",
        "/etc/passwd", "http://evil.example.com/", "/meta.json", "*", "/runs/", "/events/",
    ],
)  # fmt: skip
def test_only_three_addresses_exist(server, path):
    status, _, body = asked(server, "GET", f"{path}?token={TOKEN}", own_host(server))

    assert status == 404
    assert b"root:" not in body


def test_unknown_runs_are_no_path_to_a_file(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", f"/events?token={TOKEN}&runs=../run,r99,%2e%2e,r0%00")

    answer = connection.getresponse()
    told = b"".join(answer.readline() for _ in range(5))

    assert answer.status == 200
    assert b"event: runs" in told
    assert b"event: run\n" not in told
    connection.close()


def test_answers_carry_the_headers_that_keep_them_harmless(server):
    pages = [asked(server, "GET", f"{path}?token={TOKEN}", own_host(server))
             for path in ("/", "/runs", "/no")]  # fmt: skip

    for _, headers, _ in pages:
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in headers
        assert "Access-Control-Allow-Origin" not in headers
        assert "Python" not in headers["Server"]
    nonces = {asked(server, "GET", f"/?token={TOKEN}", own_host(server))[1][
        "Content-Security-Policy"] for _ in range(2)}  # fmt: skip
    assert len(nonces) == 2, "a nonce is for one answer"


@pytest.mark.parametrize(("length", "status"), [(2_000, 200), (3_000, 414), (100_000, 414)])
def test_long_address_is_refused(server, length, status):
    target = f"/runs?token={TOKEN}&x="
    target += "a" * (length - len(target))

    assert asked(server, "GET", target, own_host(server))[0] == status


def test_body_two_hosts_and_old_protocol_are_refused(server):
    host = own_host(server)

    assert asked(server, "GET", f"/runs?token={TOKEN}", [*host, ("Content-Length", "5")])[0] == 413
    assert asked(server, "GET", f"/runs?token={TOKEN}", [*host, *host])[0] == 403
    with socket.create_connection(("127.0.0.1", server.server_port), 20) as raw:
        raw.sendall(f"GET /runs?token={TOKEN}\r\n\r\n".encode())
        assert b"r0" not in raw.recv(4096)


@pytest.mark.parametrize(
    ("host", "ours"),
    [("10.0.0.3:80", True), ("10.0.0.3", True), ("[fe80::1]:80", True), ("[fe80::1]", True),
     ("box.local:80", True), ("10.0.0.3.evil.com:80", False), ("evil.com:80", False),
     ("[::1", False), ("", False), ("10.0.0.3:81", False)],
)  # fmt: skip
def test_public_server_goes_by_addresses_and_allowed_names(host, ours):
    access = Access(80, TOKEN, own_names("0.0.0.0", ["Box.local"]), any_address=True)
    headers = Message()
    headers["Host"] = host

    refused = access.refusal("GET", f"/?token={TOKEN}", headers)

    assert (refused is None) == ours


def test_many_slow_connections_do_not_keep_a_browser_waiting(server):
    slow = [socket.create_connection(("127.0.0.1", server.server_port), 20) for _ in range(200)]
    try:
        for each in slow:
            each.sendall(b"GET /ru")

        status, _, _ = asked(server, "GET", f"/runs?token={TOKEN}", own_host(server))

        assert status == 200
    finally:
        for each in slow:
            each.close()
