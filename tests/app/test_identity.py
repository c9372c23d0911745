"""The identity that encodes are kept under."""

from __future__ import annotations

from muzero_rc.identity import build_identity, code_digest

SOURCE = '''
"""About."""
LIMIT = 3  # why


def f(x):
    """What."""
    return x + LIMIT
'''


def test_words_and_layout_do_not_count() -> None:
    other = SOURCE.replace("About", "Other").replace("  # why", "").replace("What", "Something")
    other = other.replace("\n\n\ndef", "\n\ndef").replace("x + LIMIT", "(x +\n        LIMIT)")
    assert code_digest(SOURCE) == code_digest(other)


def test_code_counts() -> None:
    changed = (
        SOURCE.replace("3", "4"),
        SOURCE.replace("+", "-"),
        SOURCE + "\n\ndef g(): pass\n",
        SOURCE.replace('"""What."""', '"""What."""\n    x = x * 2'),
    )
    digests = {code_digest(source) for source in (SOURCE, *changed)}
    assert len(digests) == 1 + len(changed)
    assert code_digest(SOURCE, "") != code_digest(SOURCE, SOURCE)


def test_the_build_names_library_versions_and_code() -> None:
    identity = build_identity()
    for word in ("libvpx", "patches:", "muzero_rc", "speed_profile", "landing", "probed"):
        assert word in identity
    code = identity.rpartition(" code ")[2]
    assert len(code) == 12 and int(code, 16) >= 0
