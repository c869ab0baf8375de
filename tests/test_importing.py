"""module:callable: what it is given, and how its errors are told."""

import sys

import pytest

from robustpolicy import UserError
from robustpolicy.importing import call, is_reference, load

CODE = """
import json
def none(): return "none"
def required(n, depth=2): return n
def named(depth=2, num_classes=10): return num_classes
def keyword(*, num_classes): return num_classes
def any_(*args, **kwargs): return args, kwargs
def optional(depth=2): return depth
class Callable:
    def __call__(self, n, /): return n
instance = Callable()
def two(a, b): return a
def inside(): return json.loads("{")
def leaves(): raise SystemExit("bye")
def silent(): raise ValueError
"""


@pytest.fixture(autouse=True)
def _module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "things.py").write_text(CODE)
    (tmp_path / "wrong.py").write_text("x = 1\ndef f(:\n")
    yield
    sys.modules.pop("things", None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", "none"), ("required", 7), ("named", 7), ("keyword", 7), ("any_", ((), {})),
        ("optional", 2), ("instance", 7),
    ],
)  # fmt: skip
def test_the_number_of_classes_is_given_to_what_asks_for_it(name, expected):
    reference = f"things:{name}"
    assert call(reference, load(reference, "a thing"), "a thing", 7) == expected


def test_without_a_number_nothing_is_given():
    assert call("things:named", load("things:named", "a thing"), "a thing") == 10


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("things:two", r"TypeError: two\(\) missing 1 required positional argument: 'b'; it must"),
        ("things:inside", r"JSONDecodeError: Expecting .* \(things.py, line 13\); it must"),
        ("things:leaves", r"SystemExit: bye \(things.py, line 14\); it must"),
        ("things:silent", r"failed: ValueError \(things.py, line 15\)"),
        ("things:absent", r"AttributeError: module 'things' has no attribute 'absent'; it must"),
        ("absent:f", "ModuleNotFoundError: No module named 'absent'; it must be importable"),
        ("wrong:f", r"SyntaxError: .*\(wrong.py, line 2\); it must"),
    ],
)
def test_errors_are_one_line_with_their_place(reference, message):
    with pytest.raises(UserError, match=message) as caught:
        call(reference, load(reference, "a thing"), "a thing", 7)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("return a thing")


def test_references():
    assert all(map(is_reference, ["a:b", "a.b_c:D1", "_x:_y"]))
    assert not any(map(is_reference, ["a", "a:", ":b", "a:b:c", "./a:b", "1a:b", "a:b.c", "C:\\x"]))
