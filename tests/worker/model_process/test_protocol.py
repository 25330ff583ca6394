"""Frames between the worker and the model process."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made import claimed, generation
from mh_batch.worker.controller.conversation import ConversationRun
from mh_batch.worker.controller.conversation import Generate as Action
from mh_batch.worker.model_process import protocol


def body(frame: protocol.ToChild | protocol.ToParent) -> bytes:
    encoded = protocol.encode(frame)
    assert protocol.body_length(encoded[: protocol.HEADER_BYTES]) == len(encoded) - 4
    return encoded[protocol.HEADER_BYTES :]


def test_a_request_and_its_answer_arrive_as_they_were_sent() -> None:
    action = ConversationRun(claimed()).next()
    assert isinstance(action, Action)
    request = protocol.GenerateFrame(5, action.request)
    assert protocol.decode_to_child(body(request)) == request
    answer = protocol.Generated(5, generation())
    assert protocol.decode_to_parent(body(answer)) == answer


@given(st.binary())
def test_any_bytes_are_a_frame_or_a_bad_frame(data: bytes) -> None:
    with suppress(protocol.BadFrame):
        assert protocol.decode_to_parent(data) is not None


@pytest.mark.parametrize("header", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"Load"])
def test_a_length_that_cannot_be_right_is_refused(header: bytes) -> None:
    with pytest.raises(protocol.BadFrame, match="length"):
        protocol.body_length(header)


def test_a_frame_for_the_other_side_is_refused() -> None:
    with pytest.raises(protocol.BadFrame):
        protocol.decode_to_child(body(protocol.Progress(1, 2)))
