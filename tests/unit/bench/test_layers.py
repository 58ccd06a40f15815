import pytest

from bench.layers import Layer, Waiting, layer_of, of_store_process
from bench.process import ProcessFailed
from bench.split import LEAST, Spent, shared_out

LOOP = ["run (uvloop/__init__.py:92)", "uv_run (core.c:464)", "uv__stream_io (stream.c:1210)"]
CONNECTION = [*LOOP, "Connection._at_once (pullstatus/server/connection.py:413)"]
CALL = [*CONNECTION, "PullCall.at_once (pullstatus/server/v5.py:223)"]
COMMITTER = [
    "main (pullstatus/store/gathering/worker.py:83)",
    "Committer.commit (pullstatus/store/gathering/committer.py:82)",
]
LOG = [*COMMITTER, "Log.commit (pullstatus/store/sqlite/log.py:109)"]
SQLITE = [*LOG, "APSWCursor_step (__init__.so)", "sqlite3VdbeExec (__init__.so)"]


@pytest.mark.parametrize(
    ("stack", "layer"),
    [
        ([*LOOP, "uv__read (stream.c:1063)", "read (libc.so.6)"], Layer.SOCKETS),
        ([*CONNECTION, "UVStream_write (loop.c:1)", "write (libc.so.6)"], Layer.SOCKETS),
        (CONNECTION, Layer.HTTP),
        ([*CONNECTION, "read_whole (pullstatus/server/whole.py:53)", "match (re.so)"], Layer.HTTP),
        (CALL, Layer.CALL),
        ([*CALL, "wall_ms (pullstatus/clock.py:10)"], Layer.CALL),
        ([*CALL, "fitting (pullstatus/wire/v5/signature.py:41)", "EVP_Digest"], Layer.CHECKS),
        ([*CALL, "Admission.check (pullstatus/apps/admission.py:116)"], Layer.CHECKS),
        ([*CALL, "Stamp.read (pullstatus/store/sqlite/stamp.py:35)", "pread64"], Layer.MAILBOX),
        ([*CALL, "read_rows (pullstatus/records/codec.py:318)"], Layer.RECORDS),
        ([*CALL, "Writer.submit (pullstatus/store/gathering/writer.py:129)"], Layer.HAND_OVER),
        ([*CALL, "say (pullstatus/store/gathering/process.py:9)", "write (l)"], Layer.HAND_OVER),
        ([*CALL, "pack (pullstatus/store/chunk.py:83)", "LZ4_compress (lz4.c:1)"], Layer.PACKING),
        (COMMITTER, Layer.HAND_OVER),
        ([*LOG, "append (pullstatus/store/verbs/appends.py:46)"], Layer.VERBS),
        ([*LOG, "pack (pullstatus/store/chunk.py:83)", "LZ4_compress (lz4.c:1)"], Layer.PACKING),
        (SQLITE, Layer.SQL),
        ([*SQLITE, "readDbPage (__init__.so)", "pread64 (libc.so.6)"], Layer.SQL),
        ([*SQLITE, "pagerWalFrames (__init__.so)", "pwrite64 (libc.so.6)"], Layer.LOG),
        ([*SQLITE, "pagerWalFrames (__init__.so)", "fdatasync (libc.so.6)"], Waiting.SYNC),
        ([*LOOP, "uv__io_poll (linux.c:1452)", "epoll_pwait (libc.so.6)"], Waiting.IDLE),
        (["wait (threading.py:1)", "PyThread_acquire_lock_timed (p)", "0x7f (l)"], Waiting.IDLE),
    ],
)  # fmt: skip
def test_a_stack_belongs_to_the_layer_of_its_innermost_telling_frame(
    stack: list[str], layer: Layer | Waiting
) -> None:
    assert layer_of(stack) is layer


def test_which_process_a_stack_is_of() -> None:
    assert of_store_process(SQLITE)
    assert not of_store_process(CALL)


def test_what_was_counted_is_shared_out_by_samples_of_its_own_process() -> None:
    """And what waited has no share."""
    samples: dict[tuple[bool, Layer | Waiting], int] = {
        (False, Layer.HTTP): 3 * LEAST,
        (False, Layer.HAND_OVER): LEAST,
        (False, Waiting.IDLE): 1000,
        (True, Layer.HAND_OVER): 1,
        (True, Layer.SQL): 1,
        (True, Waiting.SYNC): 98,
    }
    us = shared_out(Spent(server=40.0, store=10.0), samples)
    assert us[Layer.HTTP] == pytest.approx(30.0)
    assert us[Layer.HAND_OVER] == pytest.approx(10.0 + 5.0)
    assert us[Layer.SQL] == pytest.approx(5.0)
    assert sum(us.values()) == pytest.approx(50.0)


def test_too_few_samples_are_no_measure() -> None:
    with pytest.raises(ProcessFailed, match="sample for longer"):
        shared_out(Spent(40.0, 0.0), {(False, Layer.HTTP): LEAST - 1})
