"""What a command says: all of it, in lines, bounded, and in the error when it fails."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy_guard.errors import CommandFailed
from deploy_guard.process import run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def lines_of(code: str) -> list[str]:
    lines: list[str] = []
    run(python(code), on_line=lines.append).check()
    return lines


def test_a_last_line_without_a_line_break_is_handed_on() -> None:
    assert lines_of("print('one'); print('two', end='')") == ["one", "two"]


def test_lines_of_windows_tools_have_no_carriage_return() -> None:
    assert lines_of("import sys; sys.stdout.buffer.write(b'one\\r\\ntwo\\r\\n')") == ["one", "two"]


def test_output_without_line_breaks_is_handed_on_in_pieces() -> None:
    lines = lines_of("print('x' * 1_000_000, end='')")
    assert "".join(lines) == "x" * 1_000_000
    assert 2 < len(lines) < 20


def test_lines_come_while_the_command_runs() -> None:
    at: list[float] = []
    run(
        python("import time; print(1, flush=True); time.sleep(0.5); print(2)"), on_line=lambda _: at.append(time.time())
    )
    assert at[1] - at[0] > 0.3


def test_a_character_across_the_kept_halves_stays_whole() -> None:
    text = "x" * (512 * 1024 - 1) + "ü" * 100
    assert (
        run(python(f"import sys; sys.stdout.buffer.write(('x' * {512 * 1024 - 1} + 'ü' * 100).encode())")).stdout
        == text
    )


def test_of_much_output_the_ends_are_kept_and_the_cut_is_counted() -> None:
    text = run(python("print('first'); print('x' * 5_000_000); print('last')")).stdout
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    cut = int(text.split("… ")[1].split()[0])
    assert len(text.encode()) - len(f"\n… {cut} bytes left out …\n".encode()) == 2 * 512 * 1024
    assert cut + 2 * 512 * 1024 == len("first\n") + 5_000_001 + len("last\n")


def test_input_that_nobody_reads_does_not_hurt() -> None:
    assert run(["true"], input="x" * 1_000_000).ok


def test_a_large_input_is_read_whole_while_output_comes() -> None:
    text = "ü" * 400_000
    assert run(["cat"], input=text).stdout == text


def test_without_input_there_is_nothing_to_wait_for() -> None:
    assert run(["cat"], timeout=5).stdout == ""


def test_the_last_words_after_the_request_to_end_are_quoted() -> None:
    with pytest.raises(CommandFailed, match=r"and was ended:\n  waiting\n  for the database"):
        run(["sh", "-c", "trap 'echo for the database; exit' TERM; echo waiting; sleep 60 & wait"], timeout=0.4)


def test_what_lives_on_and_keeps_talking_does_not_hold_the_run(tmp_path: Path) -> None:
    code = "import time\nwhile True: print('x', flush=True); time.sleep(0.01)"
    (tmp_path / "chat.py").write_text(code)
    script = f"{sys.executable} chat.py & echo $! > pid"
    started = time.monotonic()
    assert run(["sh", "-c", script], cwd=tmp_path, detach=True).ok
    assert time.monotonic() - started < 5
    psutil.Process(int((tmp_path / "pid").read_text())).kill()


def test_the_path_that_was_searched_is_named() -> None:
    with pytest.raises(CommandFailed) as error:
        run(["nonesuch-program"], env={"PATH": "/some/where"})
    assert "/some/where" in error.value.hint


def test_a_script_whose_interpreter_is_missing_says_so(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/nonesuch/interpreter\n")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(CommandFailed) as error:
        run(["./tool"], cwd=tmp_path)
    assert "interpreter" in error.value.hint


@pytest.mark.parametrize("word", ["a\0b", "x" * 3_000_000], ids=["null byte", "too long"])
def test_words_that_the_system_refuses_are_told(word: str) -> None:
    with pytest.raises(CommandFailed, match="can't be started"):
        run(["echo", word])


def test_a_failure_quotes_the_command_and_the_end_of_its_errors() -> None:
    code = "import sys\nprint('out')\nfor i in range(100): print('line', i, file=sys.stderr)\nsys.exit(7)"
    with pytest.raises(CommandFailed) as error:
        run([*python(code), "two words"]).check()
    text = str(error.value)
    assert "'two words' ended with exit code 7" in text or "… ended with exit code 7" in text
    assert "line 99" in text
    assert "line 10\n" not in text
    assert "out" not in text.splitlines()[-1]


def test_a_command_that_only_prints_is_quoted_from_there() -> None:
    with pytest.raises(CommandFailed, match="exit code 1:\n  on stdout"):
        run(["sh", "-c", "echo on stdout; exit 1"]).check()


@pytest.mark.parametrize("given", [{"ONLY": "this"}, {"LC_CTYPE": "C"}, {"LC_ALL": "C", "LC_CTYPE": ""}, {}])
def test_the_environment_is_the_one_that_was_given(given: dict[str, str]) -> None:
    said = run(["/usr/bin/env"], env=given).stdout.splitlines()
    assert dict(line.split("=", 1) for line in said) == given
