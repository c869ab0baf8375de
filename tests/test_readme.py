"""README: every example runs, every table matches results/, every target exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_python_examples_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one of them keeps a state
    found = blocks("python")
    assert len(found) >= 3
    namespace = {}
    for block in found:  # in order, as a reader would
        exec(compile(block, "README.md", "exec"), namespace)
    assert "% withstand every attack" in capsys.readouterr().out
    assert namespace["loss_fn"].stage in (1, 2)


def test_the_loop_with_several_passes_runs():
    (block,) = blocks("python", (ROOT / "docs" / "rl.md").read_text())
    namespace = {}
    exec(compile(block, "rl.md", "exec"), namespace)
    assert namespace["model"].weight.grad is not None


def test_shell_examples_run(cli, tmp_path):
    ran = 0
    for block in blocks("bash"):
        for line in block.strip().splitlines():
            command, *arguments = shlex.split(line)
            if command == "robustpolicy":
                done = cli(*arguments)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
                ran += 1
            else:
                assert command == "make"
    assert ran >= 4
    assert (tmp_path / "result.json").exists()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)`?", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_tables_match_the_results():
    command = [sys.executable, str(ROOT / "docs" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
