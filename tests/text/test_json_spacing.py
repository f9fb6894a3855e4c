import pytest

from gemcut.text.json_spacing import SPACING, json_options


@pytest.mark.parametrize("spacing", SPACING)
def test_no_spacing_is_without_bound(spacing):
    options = json_options(spacing)
    assert options["whitespace_flexible"] is False
    assert not any(sign in options["item_separator"] + options["key_separator"] for sign in "*+{\\")
    assert "lenient" not in options
    assert json_options(spacing, is_lenient=True) == options | {"lenient": True}
