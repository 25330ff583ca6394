"""Frames between the worker and the model process."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import claimed, generation

from mh_batch.worker import frames
from mh_batch.worker.conversation import ConversationRun
from mh_batch.worker.conversation import Generate as Action


def body(frame: frames.ToChild | frames.ToParent) -> bytes:
    encoded = frames.encode(frame)
    assert frames.body_length(encoded[: frames.HEADER_BYTES]) == len(encoded) - 4
    return encoded[frames.HEADER_BYTES :]


def test_a_request_and_its_answer_arrive_as_they_were_sent() -> None:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Action)
    request = frames.Generate(5, action.request)
    assert frames.decode_to_child(body(request)) == request
    answer = frames.Generated(5, generation())
    assert frames.decode_to_parent(body(answer)) == answer


@given(st.binary())
def test_any_bytes_are_a_frame_or_a_bad_frame(data: bytes) -> None:
    with suppress(frames.BadFrame):
        assert frames.decode_to_parent(data) is not None


@pytest.mark.parametrize("header", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"Load"])
def test_a_length_that_cannot_be_right_is_refused(header: bytes) -> None:
    with pytest.raises(frames.BadFrame, match="length"):
        frames.body_length(header)


def test_a_frame_for_the_other_side_is_refused() -> None:
    with pytest.raises(frames.BadFrame):
        frames.decode_to_child(body(frames.Progress(1, 2)))
