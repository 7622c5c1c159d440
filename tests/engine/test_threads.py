"""Work in threads: the order of its outputs, what it holds, and how it ends."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from src.engine.threads import map_in_order
from tests.serving import wait_until


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("largest", [1, 3, 16])
def test_outputs_keep_the_order_of_items(workers: int, largest: int) -> None:
    sizes: list[int] = []

    def negated(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        time.sleep(0.001 * (batch[0] % 3))
        return [-item for item in batch]

    assert list(map_in_order(negated, range(100), workers, largest)) == [-i for i in range(100)]
    assert sum(sizes) == 100
    assert max(sizes) <= largest
    assert list(map_in_order(negated, [], workers, largest)) == []


def test_batches_run_side_by_side() -> None:
    together = threading.Barrier(2, timeout=10)

    def meet(batch: list[int]) -> list[int]:
        together.wait()
        return batch

    assert list(map_in_order(meet, range(6), 2)) == list(range(6))


def test_what_is_done_is_given_while_the_next_item_is_waited_for() -> None:
    more = threading.Event()

    def slowly() -> Iterator[int]:
        yield 1
        assert more.wait(10)
        yield 2

    outputs = map_in_order(lambda batch: batch, slowly(), 2, 8)
    assert next(outputs) == 1
    more.set()
    assert list(outputs) == [2]


def test_an_endless_stream_is_held_in_a_bounded_memory() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            taken.append(item)
            yield item

    outputs = map_in_order(lambda batch: batch, endless(), 2, 4)
    for wanted in range(50):
        assert next(outputs) == wanted
    time.sleep(0.2)
    # One more than are held waits in the thread that takes them.
    assert len(taken) <= 50 + (2 * 2 + 1) * 4 + 1
    outputs.close()
    count = len(taken)
    time.sleep(0.1)
    assert len(taken) <= count + 1, "nothing more is taken when nobody asks"


def test_what_the_function_raises_comes_after_the_outputs_before() -> None:
    def picky(batch: list[int]) -> list[int]:
        if batch[0] == 3:
            raise ValueError("three")
        return batch

    outputs = map_in_order(picky, range(6), 2)
    assert [next(outputs) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(outputs)


def test_what_the_iterable_raises_comes_after_the_outputs_before() -> None:
    def failing() -> Iterator[int]:
        yield from range(3)
        raise OSError("gone")

    outputs = map_in_order(lambda batch: batch, failing(), 2, 2)
    assert [next(outputs) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="gone"):
        next(outputs)


def test_no_thread_is_left() -> None:
    def ours() -> list[str]:
        return [each.name for each in threading.enumerate() if "map_in_order" in each.name]

    outputs = map_in_order(lambda batch: batch, itertools.count(), 3)
    next(outputs)
    outputs.close()
    wait_until(lambda: ours() == [], 10)
