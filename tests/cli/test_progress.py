"""Time left is told from what was done, and not told where nothing is known."""

from __future__ import annotations

from control_plane.cli.progress import TimeLeft


class Watch:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_rate_since_there_was_most_to_do() -> None:
    watch = Watch()
    left = TimeLeft(watch)
    assert left.text(0) == ""
    assert left.text(1_000) == ""
    watch.now_s += 10.0
    assert left.text(1_000) == "", "nothing is done yet"
    watch.now_s += 10.0
    assert left.text(800) == "10.0/s, about 80 s left"
    watch.now_s += 10.0
    assert left.text(2_000) == "", "more has come up: it begins anew"
    watch.now_s += 10.0
    assert left.text(1_500) == "50.0/s, about 30 s left"
    assert left.text(0) == ""
