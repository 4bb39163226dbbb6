"""The allow-list's globs mean what .gitignore says they mean, and some paths are never allowed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import UsageError
from engine.scope import Scope, matches

PATHS = [
    "train.py", "sub/train.py", "src/a.py", "src/deep/b.py", "lib/src/c.py", "src.py", "a[1].py", "a1.py",
    "conf/base.yaml", "x/conf/y/base.yaml", "sp ace.py", "éé.py", ".hidden", "a-b.py", "tail.PY",
    "data/x/y/z",
]  # fmt: skip
GLOBS = [
    "train.py", "/train.py", "*.py", "/*.py", "src", "src/", "/src", "src/*.py", "src/**", "src/**/*.py",
    "**/conf", "**/conf/**", "conf/**/base.yaml", "?.py", "a[0-9].py", "a[!0-9]*", "a\\[1\\].py", "**", "*",
    "data/*", "data/*/y", "sp ace.py", "é*", "a[1-].py", "a[.-]b.py", "lib/**/c.py", "x/*/y", "s*/", "[[].py",
]  # fmt: skip


def git_says(folder: Path, glob: str) -> set[str]:
    """git's own verdict over PATHS (the oracle)."""
    (folder / ".gitignore").write_text(glob + "\n", encoding="utf-8")
    done = subprocess.run(
        ["git", "-C", str(folder), "check-ignore", "-z", "--stdin", "--no-index"],
        input="\0".join(PATHS).encode(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.decode().split("\0")) - {""}


def test_globs_agree_with_git(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    verdicts = {glob: git_says(tmp_path, glob) for glob in GLOBS}
    assert len({frozenset(v) for v in verdicts.values()}) > 12, "the oracle must tell globs apart"
    for glob, said in verdicts.items():
        assert {p for p in PATHS if matches((glob,), p)} == said, glob


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("", "empty"), ("/etc/passwd", "absolute"), ("../out.py", "'..'"), ("src/../../out.py", "'..'"),
        ("./a.py", "plain form"), ("a//b.py", "plain form"), ("src/", "plain form"), ("a\0b", "NUL"),
        (".git/hooks/pre-commit", "git"), ("src/.GIT/config", "git"), (".g\u200dit/config", "git"),
        (".git ./config", "git"), ("git~1/config", "git"), (".gitmodules", "git"),
        (".ratchet/store.db", "Ratchet"), ("ratchet.toml", "measured"), ("evaluate.py", "frozen"),
        ("\ud800.py", "UTF-8"), ("a/" * 600 + "b", "longer"),
        ("n" * 256, "longer"),
    ],
)  # fmt: skip
def test_never_allowed_even_when_everything_is(path: str, word: str) -> None:
    reason = Scope(("**",), ("evaluate.py",)).check(path)
    assert reason is not None and word in reason


def test_frozen_wins_and_the_rest_is_refused() -> None:
    scope = Scope(("src/", "train.py"), ("src/data/",))
    assert scope.check("src/model.py") is None
    assert scope.check("train.py") is None
    assert "frozen" in (scope.check("src/data/split.py") or "")
    assert "outside" in (scope.check("other.py") or "")
    assert "nothing" in (Scope(()).check("train.py") or "")


@pytest.mark.parametrize("glob", ["", "!train.py", "[z-a].py"])
def test_bad_globs_are_refused_at_once(glob: str) -> None:
    with pytest.raises(UsageError):
        Scope((glob,))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=40), st.text(min_size=1, max_size=20))
def test_any_text_gets_an_answer(path: str, glob: str) -> None:
    try:
        scope = Scope(("**",), (glob,))
    except UsageError:
        return
    if scope.check(path) is None:
        assert path and not path.startswith("/") and ".." not in path.split("/")
