"""What a stop waits for, in numbers and in words."""

from mh_batch.worker.draining.in_flight.stop_wait import Decoding, StopWait, wait_for


def decoding(most: int, *reports: tuple[float, int]) -> Decoding:
    """An attempt that had so many tokens at these times."""
    one = Decoding(most)
    for now, tokens in reports:
        one.take(tokens, now)
    return one


def test_the_time_left_is_that_of_the_tokens_left_at_the_speed_of_decoding() -> None:
    # the prompt took 50 seconds: they do not count
    one = decoding(100, (0.0, 0), (50.0, 10), (54.0, 30))
    assert wait_for([one], 0, now=54.0) == StopWait(attempts=1, tokens=70, seconds=14.0)
    assert (
        str(wait_for([one], 0, now=54.0)) == "the running attempt (at most 70 tokens, about 0:14)"
    )


def test_of_several_attempts_the_longest_is_waited_for() -> None:
    fast, slow = decoding(50, (0.0, 1), (1.0, 11)), decoding(90, (0.0, 1), (1.0, 6))
    wait = wait_for([fast, slow], 1, now=1.0)
    assert wait == StopWait(attempts=2, tokens=84, seconds=84 / 5, checks=1)
    said = "the 2 running attempts (at most 84 tokens each, about 0:17) and 1 check of an answer"
    assert str(wait) == said


def test_no_time_is_said_before_all_have_a_speed_and_nothing_where_nothing_is_waited_for() -> None:
    first = decoding(50, (0.0, 1), (1.0, 11))
    assert wait_for([first, decoding(50)], 0, now=1.0).seconds is None
    assert str(wait_for([decoding(50, (0.0, 1))], 0, now=9.0)) == (
        "the running attempt (at most 49 tokens)"
    )
    assert str(wait_for([], 0)) == ""
