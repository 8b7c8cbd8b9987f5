"""The page about the JSON API says what the declarations say."""

from client_api.http.reference import PAGE, page


def test_the_page_is_not_stale():
    assert PAGE.read_text() == page(), "run python -m client_api.http.reference"
