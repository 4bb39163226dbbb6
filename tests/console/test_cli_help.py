"""Finding one's way: help with examples, suggestions, shell completion, exit codes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from console.cli import COMMANDS
from tests.console.ratchet_command import COMMAND, ratchet, well


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_and_explains_every_option(command: str, tmp_path: Path) -> None:
    said = well(command, "--help", at=tmp_path)
    example = said.partition("Example")[2]
    assert f"ratchet {command}" in example or (command == "console" and "ratchet my-project" in example), said
    for line in said.partition("Options:")[2].splitlines():
        if line.startswith("  -"):
            assert "  " in line.strip() or len(line) > 20, f"an option without an explanation: {line}"


def test_the_help_lists_every_command_and_the_exit_codes(tmp_path: Path) -> None:
    said = well("--help", at=tmp_path)
    for command in COMMANDS:
        assert f"\n  {command} " in said
    for word in ("Exit codes:", "0 done", "1 failed", "2 bad usage", "3 nothing to do", "130 interrupted"):
        assert word in " ".join(said.split()), said


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    from console.cli import ratchet as group

    for name in COMMANDS:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None and command.help, name


@pytest.mark.parametrize(
    ("typed", "meant"), [("statsu", "status"), ("histroy", "history"), ("export-tsv", "export")]
)
def test_a_mistyped_command_is_answered_with_the_nearest_one(tmp_path: Path, typed: str, meant: str) -> None:
    done = ratchet(typed, at=tmp_path)
    assert done.returncode == 2
    assert f"There is no command {typed!r}" in done.stderr and f"Did you mean {meant!r}?" in done.stderr


def test_a_word_like_no_command_is_sent_to_the_list(tmp_path: Path) -> None:
    done = ratchet("xyzzy", at=tmp_path)
    assert done.returncode == 2 and "`ratchet --help` lists them" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_the_shell_accepts(tmp_path: Path, shell: str) -> None:
    script = well("completion", shell, at=tmp_path)
    assert f"_RATCHET_COMPLETE={shell}_complete" in script and "ratchet" in script
    if shutil.which(shell) is None:
        return  # printed all the same: the script is for another machine perhaps
    file = tmp_path / "script"
    file.write_text(script)
    checked = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def complete(at: Path, words: str, shell: str = "bash") -> list[str]:
    """What completion offers for the last of ``words``, as the shell's script would ask."""
    split = words.split(" ")
    env = {"_RATCHET_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(split) - 1)}
    if shell == "fish":
        env["COMP_CWORD"] = split[-1]
    done = ratchet(at=at, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_completion_offers_commands_options_and_values(tmp_path: Path) -> None:
    assert complete(tmp_path, "ratchet st") == ["plain,start", "plain,stop", "plain,status", "plain,steer"]
    everything = {line.removeprefix("plain,") for line in complete(tmp_path, "ratchet ")}
    assert set(COMMANDS) <= everything
    assert "plain,--experiments" in complete(tmp_path, "ratchet run --exp")
    assert complete(tmp_path, "ratchet history --verdict ke") == ["plain,keep"]
    assert complete(tmp_path, "ratchet completion z") == ["plain,zsh"]
    assert any(line.startswith("plain,status") for line in complete(tmp_path, "ratchet stat", "fish"))


def test_completion_works_in_a_real_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ratchet"
    program.write_text("#!/bin/sh\nexec " + " ".join(COMMAND) + ' "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(well("completion", "bash", at=tmp_path))
    typed = 'COMP_WORDS=(ratchet res); COMP_CWORD=1; _ratchet_completion ratchet; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        [bash, "--norc", "-c", f'PATH="{tmp_path}/bin:$PATH"; source "{tmp_path}/script"; {typed}'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["resume", "restore"], done.stderr


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" --help | head -n 1; echo done', "sh", *COMMAND],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "done" in done.stdout and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
