from pathlib import Path

import pytest

from config.checks import is_loopback
from config.load import SettingsError, read_settings

HEAD = "domains = ['example.org']\n"
CERTIFICATE = "[[tls.certificate]]\ncertificate_file = 'c'\nkey_file = 'k'\n"


def problems(text: str) -> list[str]:
    try:
        read_settings(text, Path("/p.toml"))
    except SettingsError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("alpha.localhost", True),
        ("*", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_tls_needs_a_certificate() -> None:
    (problem,) = problems(HEAD)
    assert "tls.certificate: found nothing, expected a certificate" in problem
    assert problems(HEAD + CERTIFICATE) == []
    assert problems(HEAD + "[[listen]]\nkind='xmpp'\nport=1\nhost='::1'\ntls='optional'\n") == []


@pytest.mark.parametrize("kind", ["xmpp", "https", "component"])
def test_cleartext_only_on_loopback_or_with_an_override(kind: str) -> None:
    text = HEAD + f"[[listen]]\nkind='{kind}'\nport=1\ntls='optional'\n"
    (problem,) = problems(text)
    assert problem.startswith('/p.toml:2: listen[1].host: found "*", expected a loopback address')
    assert problems(text + "host='127.0.0.1'\n") == []
    assert problems(text + "cleartext_override=true\n") == []


def test_kind_and_tls_must_agree() -> None:
    for kind, tls in (("xmpp", "direct"), ("xmpps", "optional")):
        (problem,) = problems(HEAD + f"[[listen]]\nkind='{kind}'\nport=1\ntls='{tls}'\nhost='::1'\n" + CERTIFICATE)
        assert problem.startswith("/p.toml:5: listen[1].tls: found")


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://a.example/base", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080/x", True),
        ("http://beta.localhost:1", True),
        ("http://a.example", False),
        ("ftp://a.example", False),
        ("https://", False),
        ("https://u@a.example", False),
        ("https://a.example?x=1", False),
        ("https://a.example:99999", False),
        ("https://[::1", False),
    ],
)
def test_peer_urls(url: str, fine: bool) -> None:
    found = problems(HEAD + CERTIFICATE + f"[[federation.peer]]\ndomain='b.example'\nurl='{url}'\n")
    assert (found == []) is fine
    assert all(line.startswith("/p.toml:7: federation.peer[1].url: found") for line in found)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[federation]\nbackoff_min='2 hours'", "federation.backoff_min"),
        ("[archive]\npage_max=20", "archive.page_default"),
        ("[accounts]\npassword_min=100\npassword_max=90", "accounts.password_min"),
        ("[storage]\nurl='mysql://x'", "storage.url"),
        ("[http]\ncors_origins=['*']", "http.cors_origins"),
        ("[http]\npublic_url='http://example.org'", "http.public_url"),
        ("[upload]\npublic_url='http://example.org'", "upload.public_url"),
        ("[metrics]\nallow=['10.0.0.1/8']", "metrics.allow"),
        ("[[federation.peer]]\ndomain='EXAMPLE.org'", "federation.peer[1].domain"),
        ("[[federation.peer]]\ndomain='b.example'\nkeys=['AAAA']", "federation.peer[1].keys"),
        ("[groups]\nsubdomain='upload'", "domains"),
    ],
)
def test_rules_over_several_keys(text: str, key: str) -> None:
    (problem,) = problems(HEAD + CERTIFICATE + text)
    assert f": {key}: found " in problem


def test_pinned_keys_are_named_and_whole() -> None:
    text = HEAD + CERTIFICATE + "[[federation.peer]]\ndomain='b.example'\nkeys=['{}']\n"
    assert problems(text.format("k1:" + "-_" * 21 + "A")) == []
    for wrong in ("A" * 43, "k1:AAAA", "k1:?", "k1:"):
        (problem,) = problems(text.format(wrong))
        assert "federation.peer[1].keys: found" in problem


def test_a_domain_must_not_be_a_sub_domain_of_ours() -> None:
    (problem,) = problems("domains = ['example.org', 'groups.example.org']\n" + CERTIFICATE)
    assert "groups.example.org twice" in problem


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ("type='turn'\nhost='turn.example.org'", "external_service[1].secret: found nothing"),
        ("type='turns'\nhost='turn.example.org'\nsecret=''", "external_service[1].secret: found nothing"),
        ("type='stun'\nhost='turn example'", "external_service[1].host: found"),
        ("type='stun'\nhost='a/b?c'", "external_service[1].host: found"),
    ],
)
def test_an_external_service_has_a_host_and_turn_a_secret(keys: str, fault: str) -> None:
    (problem,) = problems(HEAD + CERTIFICATE + f"[[external_service]]\n{keys}\n")
    assert fault in problem


def test_external_services_that_are_right() -> None:
    stun = "[[external_service]]\ntype='stun'\nhost='2001:db8::1'\n"
    turn = "[[external_service]]\ntype='turn'\nhost='turn.example.org'\nsecret='s'\ntransport='tcp'\n"
    assert problems(HEAD + CERTIFICATE + stun + turn) == []


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        ("bot.example.org", ""),
        ("a.bot.example.org", ""),
        ("example.org", "component[1].domain"),
        ("bot.other.example", "component[1].domain"),
        ("notexample.org", "component[1].domain"),
        ("pubsub.example.org", "twice"),
    ],
)
def test_the_domain_of_a_component_is_below_one_that_is_served(domain: str, said: str) -> None:
    found = problems(HEAD + CERTIFICATE + f"[[component]]\ndomain='{domain}'\nsecret='s'\n")
    assert any(said in problem for problem in found) if said else found == []


def test_a_component_has_a_secret() -> None:
    (problem,) = problems(HEAD + CERTIFICATE + "[[component]]\ndomain='bot.example.org'\nsecret=''\n")
    assert "component[1].secret" in problem
