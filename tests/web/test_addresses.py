"""Private addresses in all the forms that they can be written in, and hidden in."""

import ipaddress
import socket
import sys

import pytest

from jaxsearch.web.addresses import is_public
from jaxsearch.web.exchange import ExchangeError, check_written_address
from jaxsearch.web.fetch import Fetcher, PageError
from jaxsearch.web.turns import Turns
from tests.web.loopback import Answer

# Hosts, as they stand in an address; the server under test listens on 127.0.0.1.
HOSTS = [
    # Loopback: dotted, decimal, octal, hexadecimal, short, with other digits and dots.
    *("127.0.0.1", "127.8.8.8", "2130706433", "0177.0.0.1", "017700000001"),
    *("0x7f.0.0.1", "0x7f000001", "127.1", "127.0.1", "00000177.0.0.01", "0.0.0.0"),
    *("0", "１２７.０.０.１", "127。0。0。1", "127%2e0%2e0%2e1", "127.0.0.1."),
    # Names.
    *("localhost", "LOCALHOST", "localhost.", "private.test", "mixed.test"),
    # IPv6, with IPv4 addresses inside.
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::127.0.0.1]"),
    *("[2002:7f00:1::]", "[2001:0:7f00:1::]", "[::ffff:8.8.8.8]"),
    # Private networks, link-local, shared, for tests, multicast, reserved.
    *("10.0.0.1", "10.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376"),
    *("100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1"),
    *("255.255.255.255", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[fec0::1]"),
    *("[ff02::1]", "[2001:db8::1]", "[::ffff:169.254.169.254]"),
]
NAMES = {
    "public.test": ["93.184.215.14"],
    "private.test": ["127.0.0.1"],
    "mixed.test": ["93.184.215.14", "127.0.0.1"],
}
HERE = "127.0.0.1"
connected = []


@pytest.fixture
def connections(monkeypatch):
    """All addresses that anything connects to."""
    if not connected:
        connected.append("hook")
        sys.addaudithook(_hook)
    del connected[1:]
    yield connected
    del connected[1:]


def _hook(event, arguments):
    if event == "socket.connect" and connected:
        connected.append(arguments[1])


@pytest.fixture
def names(monkeypatch):
    """A name server that knows `NAMES`; an answer may be a list of answers in turn."""
    real, known = socket.getaddrinfo, {name: [a] for name, a in NAMES.items()}

    def look_up(host, port, *rest, **options):
        if host in known:
            answers = known[host]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in addresses
            ]
        return real(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def refused(fetcher, url):
    with pytest.raises(PageError) as refusal:
        fetcher.fetch(url)
    return refusal.value.reason


@pytest.fixture
def strict(tmp_path):
    """The fetcher as users have it, without pauses."""
    return Fetcher(Turns(tmp_path / "turns"), timeout_s=5.0)


@pytest.fixture
def here(tmp_path):
    """A fetcher for which the server's address is the only public one."""
    return Fetcher(Turns(tmp_path), timeout_s=5.0, rule=lambda a: str(a) == HERE)


def test_there_are_forty_forms():
    assert len(set(HOSTS)) >= 40


@pytest.mark.parametrize("host", HOSTS)
def test_a_private_address_is_refused(host, server, strict, names, connections):
    server.add_html("/", "<p>secret</p>")
    reason = refused(strict, f"http://{host}:{server.port}/")
    # Some systems look up names with a dot at the end, and others find nothing.
    assert reason in ("forbidden", "bad_url", "connection")
    assert server.num_connections == 0 and connections[1:] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:password@93.184.215.14/",
        "http://user@93.184.215.14/",
        "http://93.184.215.14@127.0.0.1/",
        "ftp://93.184.215.14/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "javascript:alert(1)",
        "data:text/html,hello",
        "http:///path",
        "http://[::1",
        "//127.0.0.1/",
        "127.0.0.1",
        "http://a b/",
        "",
        "http://93.184.215.14:99999/",
        "http://93.184.215.14/" + "a" * 3000,
    ],
)
def test_an_address_of_another_kind_is_refused(url, strict, connections):
    assert refused(strict, url) in ("bad_url", "forbidden", "connection")
    assert connections[1:] == []


@pytest.mark.parametrize(
    "target", ["127.0.0.2", "2130706434", "169.254.169.254", "private.test", "[::1]"]
)
def test_a_redirect_is_checked_again(target, server, here, names, connections):
    names["private.test"] = [["10.0.0.1"]]
    location = f"http://{target}:{server.port}/secret"
    server.answers["/"] = Answer(status=302, headers={"location": location})
    assert refused(here, server.url()) == "forbidden"
    assert server.paths() == ["/"]
    assert {address[0] for address in connections[1:]} == {HERE}


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "http://u:p@127.0.0.1/"])
def test_a_redirect_to_another_kind_is_refused(scheme, server, fetcher):
    server.answers["/"] = Answer(status=301, headers={"location": scheme})
    assert refused(fetcher, server.url()) == "bad_url"


def test_a_name_is_looked_up_once_for_a_connection(server, here, names, connections):
    """What the name server says a second time is not used: the robots.txt is asked
    for at the first answer, the page at the second, and a third would be refused."""
    names["changes.test"] = [[HERE], [HERE], ["10.0.0.1"]]
    server.add_html("/", "<p>hello</p>")
    assert here.fetch(server.url(host="changes.test")).body == b"<p>hello</p>"
    assert [address[0] for address in connections[1:]] == [HERE, HERE]
    assert server.asked[-1].headers["host"] == f"changes.test:{server.port}"
    assert refused(here, server.url(host="changes.test")) == "forbidden"
    assert len(connections[1:]) == 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("93.184.215.14", True),
        ("100.63.255.255", True),
        ("100.128.0.0", True),
        ("172.32.0.1", True),
        ("2606:2800:21f:cb07::1", True),
        ("64:ff9b::8.8.8.8", True),
        ("64:ff9b::10.0.0.1", False),
        ("2001:db8::1", False),
        ("4000::1", False),
    ],
)
def test_public_addresses(address, expected):
    assert is_public(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "localhost", "a.internal", "printer.local", "::1"],
)
def test_a_proxy_gets_no_local_address(host):
    with pytest.raises(ExchangeError, match="private|local"):
        check_written_address(host, is_public)
    check_written_address("example.com", is_public)
