"""Who may ask: token, host, origin, and what browsers are told."""

import pytest

PATHS = [
    "/",
    "/api/state",
    "/static/main.js",
    "/api/images/discs.png",
    "/api/images/discs.png/cells/default",
    "/nothing",
]


@pytest.fixture
def stranger(root, open_page):
    with open_page(root, with_token=False) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(stranger, path):
    assert stranger.get(path).status_code == 403
    assert stranger.get(path, cookies={"fewcell-8422": "wrong"}).status_code == 403


def test_a_wrong_token_opens_nothing(stranger):
    for token in ("wrong", "", "secret2", "sécret"):
        answer = stranger.get("/", params={"token": token})
        assert answer.status_code == 403
        assert not answer.cookies


def test_the_address_with_the_token_opens_the_page_and_hides_it(stranger):
    answer = stranger.get("/", params={"token": "secret"}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert stranger.get("/api/state").status_code == 200


def test_the_token_counts_only_where_the_page_begins(stranger):
    assert stranger.get("/api/state", params={"token": "secret"}).status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8422",
        "127.0.0.1.evil.example:8422",
        "127.0.0.1:1",
        "127.0.0.1",
        "",
        "a@127.0.0.1:8422",
        "[",
        "x:y",
    ],
)
def test_another_host_is_refused(client, host):
    assert client.get("/api/state", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8422", "localhost:8422", "[::1]:8422"])
def test_the_names_of_this_machine_are_its_own(client, host):
    headers = {"host": host, "origin": f"http://{host}", "cookie": "fewcell-8422=secret"}
    assert client.get("/api/state", headers=headers).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:8422", "http://127.0.0.1:1", "null", ""])
def test_another_origin_is_refused(client, origin):
    for method, path in (("GET", "/api/state"), ("POST", "/api/teaching/drop"), ("PUT", "/api/images/a.png")):
        assert client.request(method, path, headers={"origin": origin}).status_code == 403


def test_a_change_without_an_origin_is_refused(client):
    del client.headers["origin"]
    assert client.get("/api/state").status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.request(method, "/api/teaching/drop").status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_tells_the_browser_to_run_nothing_else(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_an_open_server_takes_addresses_but_no_names(root, open_page):
    with open_page(root, host="0.0.0.0") as client:
        cookie = {"cookie": "fewcell-8422=secret"}
        address, name = "192.168.1.7:8422", "evil.example:8422"
        assert (
            client.get("/api/state", headers={**cookie, "host": address, "origin": f"http://{address}"}).status_code
            == 200
        )
        assert client.get("/api/state", headers={**cookie, "host": name, "origin": f"http://{name}"}).status_code == 421
