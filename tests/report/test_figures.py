"""Curves: every training has a line of its own."""

import pytest

from robustpolicy.report.figures import curves_figure, save_figure


def history(epochs, switch=9):
    return [
        {"epoch": e, "loss": 1 / e, "watched_accuracy": 0.9, "stage": 1 + (e >= switch)}
        for e in range(1, epochs + 1)
    ]


def test_more_trainings_than_colours(tmp_path):
    histories = {f"run{n}": history(3) for n in range(6)}
    histories |= {"short": history(1), "two": history(4, 3)}
    figure = curves_figure(histories)
    loss, accuracy = figure.axes
    *lines, switch = loss.lines
    assert [line.get_label() for line in lines] == list(histories)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(histories)
    assert list(lines[0].get_ydata()) == pytest.approx([1, 1 / 2, 1 / 3])
    assert lines[6].get_marker() == "o"  # one epoch: a line would not show
    assert list(switch.get_xdata()) == [2.5, 2.5]
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([90, 90, 90])
    assert len(accuracy.get_legend().get_texts()) == len(histories)
    save_figure(figure, tmp_path / "x.svg")
    assert (tmp_path / "x.svg").stat().st_size > 1000
