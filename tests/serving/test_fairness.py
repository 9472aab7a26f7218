"""Whose turn it is."""

from molformer.serving.fairness import Client, FairQueue

ANNA, BERT = Client(("10.0.0.1", 1)), Client(("10.0.0.2", 1))


def order(queue):
    return "".join(queue.pop() for _ in range(len(queue)))


def test_a_client_with_much_work_does_not_delay_one_with_little():
    queue = FairQueue()
    for _ in range(9):
        queue.put("a", ANNA, 1)
    assert [queue.pop(), queue.pop()] == ["a", "a"]
    queue.put("b", BERT, 1)
    assert order(queue) == "ab" + 6 * "a"


def test_a_share_is_of_the_cost_and_not_of_the_number():
    queue = FairQueue()
    for _ in range(3):
        queue.put("A", ANNA, 4)
    for _ in range(12):
        queue.put("b", BERT, 1)
    assert order(queue) == "bbbAbbbbAbbbbAb"  # equal tags: that which came first


def test_nobody_waits_for_ever():
    queue = FairQueue()
    queue.put("A", ANNA, 10)
    served = []
    for _ in range(20):
        queue.put("b", BERT, 1)
        served.append(queue.pop())
    assert served.index("A") == 9


def test_many_connections_of_a_host_have_the_share_of_one():
    queue = FairQueue()
    for port in range(4):
        for _ in range(4):
            queue.put("a", Client(("10.0.0.1", port), weight=4), 1)
    for _ in range(4):
        queue.put("b", BERT, 1)
    assert order(queue)[:8].count("b") in (3, 4)


def test_clients_that_have_gone_are_forgotten():
    queue = FairQueue()
    for port in range(5000):
        queue.put("a", Client(("10.0.0.1", port)), 1)
        queue.pop()
    assert len(queue._last) <= 1001
