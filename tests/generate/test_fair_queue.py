"""Whose turn it is, among clients and among the requests of one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gemcut.generate.fair_queue import FairQueue


def filled(*waiting):
    """A queue with sequences named "CLIENT REQUEST NUMBER", in this order."""
    queue = FairQueue()
    for name in waiting:
        client, request, _ = name.split()
        queue.add(name, client, request)
    return queue


def named(client, request, count):
    return [f"{client} {request} {number}" for number in range(count)]


def begun(queue, count):
    """The next ones, which begin."""
    names = []
    for _ in range(count):
        names.append(queue.in_turn()[0])
        queue.begin(names[-1])
    return names


def test_without_owners_it_is_first_come_first_served():
    queue = FairQueue()
    for name in "abc":
        queue.add(name)
    assert (len(queue), list(queue), "a" in queue, "z" in queue) == (3, ["a", "b", "c"], True, False)
    assert queue.in_turn() == ["a", "b", "c"]
    queue.begin("a")
    assert (queue.in_turn(), queue.in_turn(["c"]), "a" in queue) == (["b", "c"], ["c"], False)


@pytest.mark.parametrize("running", [1, 2, 8])
def test_whoever_comes_beside_many_is_next(running):
    """The many may be samples of one request, or requests of one client."""
    for many in (named("a", "1", 20), [f"a {number} 0" for number in range(20)]):
        queue = filled(*many)
        first = begun(queue, running)
        queue.add("b 1 0", "b", "1")
        queue.end(first[0])
        assert queue.in_turn()[0] == "b 1 0"


def test_another_request_of_the_same_client_is_next():
    queue = filled(*named("a", "1", 20))
    first = begun(queue, 8)
    queue.add("a 2 0", "a", "2")
    queue.end(first[0])
    assert begun(queue, 2) == ["a 2 0", "a 1 8"]


def test_those_that_want_much_share_evenly():
    queue = filled(*named("a", "1", 20), *named("b", "1", 20), *named("b", "2", 20))
    order = ["a 1 0", "b 1 0", "a 1 1", "b 2 0", "a 1 2", "b 1 1", "a 1 3", "b 2 1"]
    assert begun(queue, 8) == order


def test_order_of_arrival_decides_between_equals():
    queue = filled("a 1 0", "b 1 0", "c 1 0", "a 2 0", "b 2 0")
    assert begun(queue, 5) == ["a 1 0", "b 1 0", "c 1 0", "a 2 0", "b 2 0"]


def test_nobody_starves_beside_newcomers():
    """Each step brings a new client, and one place: who has many waiting still gets on."""
    queue = filled(*named("a", "1", 50))
    running = begun(queue, 2)
    done = []
    for step in range(200):
        queue.add(f"new{step} 1 0", f"new{step}", "1")
        done.append(running.pop(0))
        queue.end(done[-1])
        running += begun(queue, 1)
    assert sum(name.startswith("a ") for name in done) > 10


def test_nothing_is_kept_of_those_that_have_gone():
    """Seeded: whatever the order of coming, beginning and leaving."""
    random = np.random.default_rng(1)
    queue, alive = FairQueue(), []
    for number in itertools.count():
        if number < 500:
            alive.append(f"{random.integers(5)} {random.integers(5)} {number}")
            queue.add(alive[-1], *alive[-1].split()[:2])
        if len(queue) and random.random() < 0.7:
            queue.begin(queue.in_turn()[0])
        if random.random() < 0.8:
            queue.end(alive.pop(int(random.integers(len(alive)))))
        assert all(party.num_running + party.num_waiting > 0 for party in queue._parties.values())
        if not alive:
            break
    assert (queue._waiting, queue._running, queue._parties) == ({}, {}, {})
