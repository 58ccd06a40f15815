"""Messages between a server's process and that of its store, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullstatus.store.gathering import frames


@given(st.lists(st.binary(max_size=200)), st.data())
def test_frames_come_out_as_they_went_in(contents: list[bytes], data: st.DataObject) -> None:
    """However they are cut on their way, and however large they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "BUFFER_BYTES", 64)
        arriving = frames.Frames(bytes)
        stream = b"".join(b"".join(frames.frame(content)) for content in contents)
        found = []
        while stream:
            free = arriving.free()
            assert free
            count = data.draw(st.integers(1, min(len(free), len(stream))))
            free[:count] = stream[:count]
            stream = stream[count:]
            found += arriving.arrived(count)
        assert found == contents
        assert len(arriving._buffer) == 64


def test_a_large_frame_does_not_keep_its_room() -> None:
    """What made room for it goes with it, whether it came whole or in pieces."""
    large = b"".join(frames.frame(b"x" * (3 * frames.BUFFER_BYTES)))
    arriving = frames.Frames(bytes)
    sizes = []
    for _ in range(2):
        stream = large
        while stream:
            free = arriving.free()
            count = min(len(free), len(stream))
            free[:count] = stream[:count]
            stream = stream[count:]
            arriving.arrived(count)
            sizes.append(len(arriving._buffer))
    assert max(sizes) == len(large)
    assert sizes[-1] == frames.BUFFER_BYTES
