"""What is written about the code is what the code says."""

from docs.catalogue import PAGE, render


def test_the_catalogue_of_messages_is_fresh() -> None:
    assert render() == PAGE.read_text(), "run `make docs`"
