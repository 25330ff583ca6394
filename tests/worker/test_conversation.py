"""The course of one conversation, as values: no model, no database, no clock."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import claimed, cut, generation, malformed, stuck

from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Channel, Generation, StopReason
from mh_batch.jobs.record import Attempt, ClaimedJob, JobEnd, Recorded, Turn, Verdict
from mh_batch.jobs.status import Status
from mh_batch.worker.conversation import ConversationRun, Finish, Generate, Record


def generate(run: ConversationRun) -> Generate:
    action = run.next()
    assert isinstance(action, Generate), action
    return action


def record(run: ConversationRun) -> Record:
    action = run.next()
    assert isinstance(action, Record), action
    return action


def play(run: ConversationRun, *generations: Generation) -> list[Record]:
    records = []
    for each in generations:
        generate(run)
        run.feed(each)
        records.append(record(run))
    return records


def test_one_message_is_one_completion() -> None:
    run = ConversationRun(claimed())
    (written,) = play(run, generation("Hello"))
    assert written.attempt.verdict is Verdict.ACCEPT
    assert written.turn is not None
    assert (written.turn.user, written.turn.final, written.turn.analysis) == (
        "Hi",
        "Hello",
        "thought",
    )
    assert written.end == JobEnd(Status.DONE)
    assert run.next() == Finish(JobEnd(Status.DONE))


def test_each_turn_is_answered_before_the_next_is_played() -> None:
    run = ConversationRun(claimed((), ("a", "b")))
    assert [m.content for m in generate(run).request.prompt.messages] == ["a"]
    (first,) = play(run, generation("1"))
    assert first.end is None
    action = generate(run)
    assert action.place.turn == 2
    assert action.request.prompt.messages == (
        Message("user", "a"),
        Message("assistant", "1", thinking="thought"),
        Message("user", "b"),
    )
    (second,) = play(run, generation("2"))
    assert second.end == JobEnd(Status.DONE)


def test_a_context_that_waits_for_an_answer_is_answered_before_the_turns() -> None:
    run = ConversationRun(claimed(turns=("more",)))
    (first,) = play(run, generation("1"))
    assert first.turn is not None
    assert first.turn.user == "Hi"
    assert generate(run).request.prompt.messages[-1] == Message("user", "more")


def test_a_retry_has_another_seed_and_the_next_turn_the_users_settings_again() -> None:
    run = ConversationRun(claimed((), ("a", "b"), max_tokens=100))
    first = generate(run).request
    play(run, cut())
    second = generate(run).request
    assert second.seed != first.seed
    assert second.sampling.max_tokens == 125
    play(run, generation())
    assert generate(run).request.sampling == first.sampling


def test_guidance_is_in_one_prompt_and_in_no_history() -> None:
    run = ConversationRun(claimed((), ("a", "b")))
    play(run, malformed())
    guided = generate(run).request.prompt
    assert guided.guidance
    assert guided.messages == (Message("user", "a"),)
    play(run, generation("1"))
    after = generate(run).request.prompt
    assert after.guidance is None
    assert guided.guidance not in repr(after.messages)


def test_when_the_attempts_run_out_the_best_is_kept_and_the_job_is_incomplete() -> None:
    run = ConversationRun(claimed(max_attempts=3))
    records = play(run, cut(), malformed(), cut())
    assert [r.attempt.verdict for r in records] == [
        Verdict.RETRY,
        Verdict.RETRY,
        Verdict.GIVE_UP,
    ]
    turn = records[-1].turn
    assert turn is not None
    assert (turn.place.attempt, turn.attempts, turn.complete) == (2, 3, False)
    assert records[-1].end is not None
    assert records[-1].end.status is Status.INCOMPLETE
    assert records[-1].end.error_code == "malformed"


def test_a_conversation_goes_on_after_a_kept_answer_and_stays_incomplete() -> None:
    run = ConversationRun(claimed((), ("a", "b"), max_attempts=1))
    (first, second) = play(run, malformed(), generation())
    assert first.end is None
    assert second.end is not None
    assert second.end.status is Status.INCOMPLETE


def test_a_conversation_stops_where_there_is_nothing_to_go_on_from() -> None:
    run = ConversationRun(claimed((), ("a", "b"), max_attempts=1))
    (first,) = play(run, cut())
    assert first.end is not None
    assert first.end.status is Status.INCOMPLETE


def test_a_tool_call_ends_the_conversation() -> None:
    (done,) = play(ConversationRun(claimed()), generation(None, call="f"))
    assert done.end == JobEnd(Status.DONE)
    (early,) = play(ConversationRun(claimed((), ("a", "b"))), generation(None, call="f"))
    assert early.end is not None
    assert early.end.error_code == "tool_call_unanswered"


def test_a_good_place_to_stop_is_between_turns_only() -> None:
    run = ConversationRun(claimed((), ("a", "b")))
    assert run.between_turns
    play(run, malformed())
    assert not run.between_turns
    play(run, generation())
    assert run.between_turns


def test_the_last_attempt_rescues_the_analysis_of_the_one_before() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    play(run, stuck())
    assert generate(run).request.rescue == ()
    thinking = msgspec.structs.replace(stuck(), tokens=(7, 8, 9))
    play(run, thinking)
    request = generate(run).request
    assert request.rescue == (7, 8, 9)
    assert (request.prompt.guidance, request.sampling.max_tokens) == (None, 100)
    (written,) = play(run, msgspec.structs.replace(generation("at last"), opening=(7, 8, 9, 1)))
    assert written.attempt.rescued
    assert written.turn is not None
    assert (written.turn.rescued, written.turn.attempts) == (True, 3)
    assert written.end == JobEnd(Status.DONE)


def test_a_rescue_without_room_for_an_opening_is_no_rescue() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    play(run, stuck())
    assert generate(run).request.rescue
    (written,) = play(run, generation())
    assert not written.attempt.rescued


def test_a_tool_that_has_a_result_is_answered_and_the_turn_goes_on() -> None:
    run = ConversationRun(claimed(turns=("more",), tool_results={"f": "42"}))
    first, second = play(run, generation(None, call="f"), generation("It is 42."))
    assert first.turn is not None
    assert (first.turn.place.step, first.turn.finish_reason, first.end) == (0, "tool_calls", None)
    assert second.turn is not None
    assert (second.turn.place.step, second.turn.user) == (1, None)
    messages = generate(run).request.prompt.messages
    call = messages[1].tool_calls[0]
    assert messages[2] == Message("tool", "42", name="f", tool_call_id=call.id)
    assert [m.role for m in messages] == ["user", "assistant", "tool", "assistant", "user"]


def test_a_list_of_results_is_used_up_in_order() -> None:
    run = ConversationRun(claimed(tool_results=("1", "2")))
    calls = [generation(None, call="f"), generation(None, call="g")]
    play(run, *calls)
    messages = generate(run).request.prompt.messages
    assert [m.content for m in messages if m.role == "tool"] == ["1", "2"]
    (third,) = play(run, generation(None, call="f"))
    assert third.end is not None
    assert (third.end.status, third.end.error_code) == (Status.INCOMPLETE, "tool_call_unanswered")


def test_a_turn_of_calls_without_end_stops_at_max_steps() -> None:
    run = ConversationRun(claimed(tool_results={"f": "42"}, max_steps=3))
    records = play(run, *[generation(None, call="f")] * 3)
    assert [r.end is None for r in records] == [True, True, False]
    end = records[-1].end
    assert end is not None
    assert (end.status, end.error_code) == (Status.INCOMPLETE, "too_many_steps")


def test_each_choice_is_played_from_the_beginning_with_seeds_of_its_own() -> None:
    run = ConversationRun(claimed((), ("a", "b"), n=2))
    records = play(run, *[generation(f"{i}") for i in range(4)])
    places = [(r.attempt.place.choice, r.attempt.place.turn) for r in records]
    assert places == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len({r.attempt.seed for r in records}) == 4
    assert [r.end for r in records] == [None, None, None, JobEnd(Status.DONE)]


def test_a_job_is_incomplete_if_one_of_its_choices_is() -> None:
    run = ConversationRun(claimed(n=2, max_attempts=1))
    (_, last) = play(run, malformed(), generation())
    assert last.end is not None
    assert (last.end.status, last.end.error_code) == (Status.INCOMPLETE, "malformed")


def test_a_call_that_nobody_answered_is_not_in_what_later_turns_see() -> None:
    run = ConversationRun(claimed((), ("a", "b"), max_attempts=1))
    play(run, generation("1", problems=("bad_arguments",), call="f"))
    assert generate(run).request.prompt.messages[1].tool_calls == ()


def requeued(job: ClaimedJob, *records: Record, without: int) -> ConversationRun:
    """The run of a job put back into the queue, its last `without` settled steps deleted."""
    turns = [r.turn for r in records if r.turn is not None]
    kept = tuple(turns[: len(turns) - without])
    recorded = Recorded(tuple(r.attempt for r in records), kept)
    return ConversationRun.resume(msgspec.structs.replace(job, round=job.round + 1), recorded)


def test_a_requeued_job_counts_its_attempts_on_with_a_fresh_cap() -> None:
    job = claimed((), ("a", "b"), max_attempts=2, max_tokens=100)
    records = play(ConversationRun(job), generation("1"), cut(), cut())
    run = requeued(job, *records, without=1)
    again = generate(run)
    assert (again.place.turn, again.place.attempt) == (2, 3)
    assert again.request.sampling.max_tokens == 100
    assert again.request.seed not in {r.attempt.seed for r in records}
    fourth, fifth = play(run, cut(), generation("2"))
    assert fourth.attempt.verdict is Verdict.RETRY
    assert (fifth.attempt.place.attempt, fifth.attempt.round) == (4, 1)
    assert fifth.turn is not None
    assert (fifth.turn.attempts, fifth.end) == (4, JobEnd(Status.DONE))


def test_a_requeued_choice_leaves_the_others_as_they_are() -> None:
    job = claimed(n=3, max_attempts=1)
    records = play(ConversationRun(job), generation("1"), malformed(), generation("3"))
    turns = [r.turn for r in records if r.turn is not None]
    recorded = Recorded(tuple(r.attempt for r in records), (turns[0], turns[2]))
    run = ConversationRun.resume(msgspec.structs.replace(job, round=1), recorded)
    assert generate(run).place.choice == 1
    (written,) = play(run, generation("2"))
    assert written.end == JobEnd(Status.DONE)


def test_what_follows_an_answer_is_asked_anew_when_the_answer_is_another_one() -> None:
    job = claimed((), ("a", "b"), max_attempts=1)
    records = play(ConversationRun(job), malformed(), generation("2"))
    turns = [r.turn for r in records if r.turn is not None]
    recorded = Recorded(tuple(r.attempt for r in records), (turns[1],))
    run = ConversationRun.resume(msgspec.structs.replace(job, round=1), recorded)
    play(run, generation("1"))
    assert (generate(run).place.turn, generate(run).place.attempt) == (2, 2)


def test_a_requeued_job_that_does_worse_keeps_the_answer_it_had() -> None:
    job = claimed(max_attempts=1)
    records = play(ConversationRun(job), malformed())
    run = requeued(job, *records, without=1)
    (written,) = play(run, cut())
    assert written.turn is not None
    assert (written.turn.place.attempt, written.turn.final) == (1, "answer")


def test_an_answer_of_white_space_is_nothing_to_go_on_from() -> None:
    (written,) = play(
        ConversationRun(claimed((), ("a", "b"), max_attempts=1)),
        generation(" \n", problems=("empty_final",)),
    )
    assert written.end is not None
    assert "1 turn left to play" in str(written.end.error)


def test_what_is_said_before_a_call_is_in_the_history() -> None:
    call = generation(None, call="f")
    channels = (Channel("commentary", "Let me look."), *call.parse.channels)
    parse = msgspec.structs.replace(call.parse, channels=channels)
    run = ConversationRun(claimed(tool_results={"f": "42"}))
    play(run, msgspec.structs.replace(call, parse=parse))
    assert generate(run).request.prompt.messages[1].content == "Let me look."


kinds = st.lists(
    st.sampled_from(["good", "cut", "malformed", "loop", "call", "stuck"]), max_size=16
)


def made(kind: str, index: int) -> Generation:
    """A generation with texts of its own, so that a mix-up of attempts shows."""
    text = f"answer {index}"
    match kind:
        case "good":
            return generation(text)
        case "malformed":
            return generation(text, problems=("junk",))
        case "loop":
            return generation(text, problems=("truncated",), stop=StopReason.LOOP_DETECTED)
        case "call":
            return generation(None, call=f"f{index % 3}")
        case "stuck":
            return msgspec.structs.replace(stuck(), tokens=(index,))
        case _:
            return cut()


def test_resume_takes_the_turn_that_was_recorded_whatever_would_be_kept_today() -> None:
    job = claimed((), ("a", "b"), max_attempts=2)
    records = play(ConversationRun(job), generation("1", problems=("x",)), malformed())
    turn = records[-1].turn
    assert turn is not None
    other = msgspec.structs.replace(
        turn, place=msgspec.structs.replace(turn.place, attempt=2), final="kept then"
    )
    recorded = Recorded(tuple(r.attempt for r in records), (other,))
    messages = generate(ConversationRun.resume(job, recorded)).request.prompt.messages
    assert [m.content for m in messages] == ["a", "kept then", "b"]


def test_the_sampling_on_record_is_what_the_context_left_of_it() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    (written,) = play(run, msgspec.structs.replace(cut(), max_tokens=65))
    assert written.attempt.sampling.max_tokens == 65
    # more room cannot help where the context is the limit
    assert generate(run).request.prompt.guidance


jobs = st.builds(
    lambda context, turns, n, results, attempts, steps: claimed(
        (Message("user", "Hi"),) if context or not turns else (),
        tuple("abc"[:turns]),
        n=n,
        tool_results=results,
        max_attempts=attempts,
        max_steps=steps,
    ),
    st.booleans(),
    st.integers(0, 3),
    st.integers(1, 3),
    st.sampled_from([None, {"f0": "0", "f1": "1"}, ("x", "y")]),
    st.integers(1, 3),
    st.integers(1, 3),
)


@given(kinds, jobs)
def test_resume_from_any_prefix_goes_on_as_the_uninterrupted_run(
    answers: list[str], job: ClaimedJob
) -> None:
    run = ConversationRun(job)
    attempts: list[Attempt] = []
    settled: list[Turn] = []
    for index, kind in enumerate(answers):
        assert_same_course(job, Recorded(tuple(attempts), tuple(settled)), run)
        if isinstance(run.next(), Finish):
            return
        run.feed(made(kind, index))
        written = record(run)
        attempts.append(written.attempt)
        if written.turn is not None:
            settled.append(written.turn)
    assert_same_course(job, Recorded(tuple(attempts), tuple(settled)), run)


def assert_same_course(job: ClaimedJob, recorded: Recorded, run: ConversationRun) -> None:
    resumed = ConversationRun.resume(job, recorded)
    assert resumed.next() == run.next()
    assert resumed.between_turns == run.between_turns


@pytest.mark.parametrize("reason", ["length", "malformed"])
def test_the_reason_of_a_retry_is_on_its_row(reason: str) -> None:
    run = ConversationRun(claimed())
    (written,) = play(run, cut() if reason == "length" else malformed())
    assert written.attempt.retry_reason == reason
