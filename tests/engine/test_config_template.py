"""The file that ``ratchet init`` writes cannot drift from the schema."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import TABLES, Config, parse
from engine.config_sections import HostSection, LimitsSection, MetricSection, TrialSection
from engine.config_template import WIDTH, literal, render

BASE = Config(metric=MetricSection(name="loss"), trial=TrialSection(command="python train.py"))


def test_the_template_parses_to_the_same_configuration() -> None:
    assert parse(render(BASE)) == BASE


def test_every_key_stands_in_it_with_a_comment() -> None:
    text = render(BASE)
    for name, model in TABLES.items():
        assert f"[{name}]" in text
        for field_name, field in model.model_fields.items():
            key = field.alias or field_name
            assert f"{key} = " in text, key
            assert field.description, f"[{name}] {key} has no comment"
    assert all(len(line) <= WIDTH for line in text.splitlines()), "readable in a terminal"


def test_limits_that_are_absent_stay_absent_and_given_ones_stand() -> None:
    given_limits = BASE.model_copy(update={"limits": LimitsSection(experiments=0, hours=1.5, dollars="unlimited")})
    assert parse(render(given_limits)) == given_limits
    assert parse(render(BASE)).limits == LimitsSection()


text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(text, text, max_size=3), text)
def test_any_text_survives_the_writing(table: dict[str, str], word: str) -> None:
    import tomllib

    assert tomllib.loads(f"x = {literal(word)}\ny = {literal(table)}\nz = {literal((word,))}") == {
        "x": word,
        "y": table,
        "z": [word],
    }


def test_several_hosts_and_patterns_survive() -> None:
    config = BASE.model_copy(
        update={
            "metric": MetricSection(name="acc", pattern=r"acc:\s*([0-9.]+)%"),
            "hosts": (HostSection(), HostSection(name="b", ssh="gpu1", slurm={"time": "00:15:00", "n": 3})),
        }
    )
    assert parse(render(config)) == config
