"""The rules by which a person is asked."""

from __future__ import annotations

import pytest

from engine.errors import UsageError
from engine.review import Unanswered, asked, check_rule, parse_unanswered

DIFF = """diff --git a/train.py b/train.py
index 1..2 100644
--- a/train.py
+++ b/train.py
@@ -1,3 +1,4 @@
 import os
+import torch.nn
-LR = 0.1
+LR = 0.2
--- no header, a removed line that looks like one
diff --git a/data/mix.py b/data/mix.py
new file mode 100644
--- /dev/null
+++ b/data/mix.py
@@ -0,0 +1 @@
+RATIO = 3
"""


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("lines > 4", True),
        ("lines > 5", False),
        ("added >= 3", True),
        ("removed > 2", False),
        ("removed >= 2", True),
        ("files > 1", True),
        ("files <= 1", False),
        ("paths: data/**", True),
        ("paths: model/**", False),
        ("new import", True),
    ],
)
def test_a_rule_reads_the_diff(rule: str, holds: bool) -> None:
    check_rule(rule)
    assert asked([rule], DIFF) == (rule if holds else "")


def test_the_first_rule_that_holds_is_named_and_none_is_no_question() -> None:
    assert asked(["files > 9", "new import", "lines > 1"], DIFF) == "new import"
    assert asked([], DIFF) == ""


def test_an_import_that_only_moved_is_not_new() -> None:
    moved = "diff --git a/a.py b/a.py\n@@ -1 +1 @@\n-import os\n+import os\n"
    assert asked(["new import"], moved) == ""


@pytest.mark.parametrize("rule", ["line > 3", "lines >", "paths:", "new imports", "", "lines > -1"])
def test_what_is_no_rule_is_refused_with_examples(rule: str) -> None:
    with pytest.raises(UsageError, match="no rule") as error:
        check_rule(rule)
    assert "new import" in error.value.mend


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("30m", Unanswered(1800, "reject")),
        ("30m: reject", Unanswered(1800, "reject")),
        ("1.5 h : accept", Unanswered(5400, "accept")),
        ("90s:accept", Unanswered(90, "accept")),
    ],
)
def test_silence_rejects_unless_told_otherwise(text: str, found: Unanswered | None) -> None:
    assert parse_unanswered(text) == found


@pytest.mark.parametrize("text", ["soon", "30", "0m", "30m: maybe", ": accept", "-3m"])
def test_a_bad_time_out_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_unanswered(text)
