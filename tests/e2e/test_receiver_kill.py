"""Whatever kills the receiver: what it acknowledged is in the store once, after it was started again."""

import threading
import time

import grpc

from tests.e2e.receiver_process import TRACE_EXPORT, agent_trace, query, running, start, wait_for

KILLS = 5
SENDERS = 3


class Ledger:
    """Which traces were acknowledged, by any receiver."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.address = ""
        self.stop = threading.Event()
        self._next = 0
        self._lock = threading.Lock()

    def send(self) -> None:
        """Send traces until stopped; one that is not acknowledged is sent again, as every exporter does."""
        number, channel, address = 0, None, ""
        while not self.stop.is_set():
            if number == 0:
                with self._lock:
                    self._next += 1
                    number = self._next
            if channel is None or address != self.address:
                if channel is not None:
                    channel.close()
                address = self.address
                channel = grpc.insecure_channel(address)
            try:
                channel.unary_unary(TRACE_EXPORT)(agent_trace(number).SerializeToString(), timeout=5)
            except grpc.RpcError:
                time.sleep(0.02)
                continue
            self.acknowledged.add(number)
            number = 0
        channel.close()


def test_every_acknowledged_span_is_stored_once_after_kills(tmp_path):
    """Five times kill -9 while three clients send: no acknowledged span is lost, none is there twice."""
    ledger = Ledger()
    receiver = start(tmp_path)
    ledger.address = receiver.grpc
    threads = [threading.Thread(target=ledger.send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    try:
        for kill in range(KILLS):
            before = len(ledger.acknowledged)
            # Some kills fall on the first requests, some on a write to the store.
            wait_for(lambda before=before: len(ledger.acknowledged) >= before + 30, "acknowledgements")
            time.sleep(0.15 * kill)
            receiver.kill()
            receiver = start(tmp_path)
            ledger.address = receiver.grpc
        wait_for(lambda: len(ledger.acknowledged) >= (KILLS + 1) * 30, "acknowledgements")
    finally:
        ledger.stop.set()
        for thread in threads:
            thread.join(30)
        code = receiver.stop()
    assert 0 == code
    spans = [
        (int(trace, 16), int(span, 16)) for trace, span in query(tmp_path, "SELECT trace_id, span_id FROM store.spans")
    ]
    expected = {(number, 2 * number + child) for number in ledger.acknowledged for child in (0, 1)}
    assert set() == expected - set(spans)
    assert len(spans) == len(set(spans))
    steps = query(tmp_path, "SELECT trace_id, count(*) FROM decision_points GROUP BY ALL")
    assert {1} == {count for _, count in steps}
    assert ledger.acknowledged <= {int(trace, 16) for trace, _ in steps}


def test_a_kill_before_anything_is_derived_loses_nothing(tmp_path):
    """The receiver dies before the first write to the store; the next one derives everything from the log."""
    slow = "[pipeline]\nflush_interval_s = 3600\n"
    with running(tmp_path, slow) as receiver, grpc.insecure_channel(receiver.grpc) as channel:
        for number in range(1, 11):
            channel.unary_unary(TRACE_EXPORT)(agent_trace(number).SerializeToString(), timeout=10)
        receiver.kill()
    with running(tmp_path) as receiver:
        wait_for(lambda: query(tmp_path, "SELECT count(*) FROM episodes") == [(10,)], "ten episodes")
        assert 0 == receiver.stop()
    assert [(20,)] == query(tmp_path, "SELECT count(*) FROM store.spans")
