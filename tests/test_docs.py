"""docs/own.md: the example runs, and prints what is printed there."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from robustpolicy.cli import main

OWN = (Path(__file__).parent.parent / "docs" / "own.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", OWN, re.DOTALL)


def without_numbers(text):
    """Lines without numbers, spaces and rules: those differ between machines."""
    lines = [re.sub(r"[\d.]+|\s+|─+", "", line) for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def run_example(capsys, tmp_path, monkeypatch):
    """Run the example in order, but for one command, and compare; returns how many outputs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def run(skip):
        compared, output = 0, ""
        for language, content in BLOCKS:
            if language == "python":
                (tmp_path / re.match(r"# (\w+\.py)\n", content)[1]).write_text(content)
            elif language == "bash":
                commands = [shlex.split(line) for line in content.strip().splitlines()]
                ran = [execute(*command) for command in commands if skip not in command]
                output = "".join(ran) if len(ran) == len(commands) else None
            elif output is not None:
                printed = without_numbers(output)
                assert all(line in printed for line in without_numbers(content)), output
                compared += 1
        return compared

    def execute(command, *arguments):
        if command == "python":
            runpy.run_path(str(tmp_path / arguments[0]))
            return ""
        assert command == "robustpolicy"
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.err + captured.out

    yield run
    sys.modules.pop("mymodel", None)


def test_the_example_runs_and_prints_what_is_printed(run_example, tmp_path):
    assert run_example(skip="audit") == 3
    assert (tmp_path / "runs/mine/dataset.json").exists()


@pytest.mark.slow
def test_the_audit_of_the_example(run_example):
    assert run_example(skip=None) == 4
