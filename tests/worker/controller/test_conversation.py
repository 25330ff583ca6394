"""The course of one conversation, as values: no model, no database, no clock."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given

from helpers.courses import CIRCLES, answer, jobs, kinds, rejection
from helpers.made import begun, claimed, cut, generation, lost, malformed, stuck
from helpers.played import generate, record
from mh_batch.jobs.answers.forms import Form
from mh_batch.jobs.conversation import Message
from mh_batch.jobs.generation import Channel, Continuation, Generation, StopReason
from mh_batch.jobs.record import Attempt, ClaimedJob, CompletedStep, History, JobEnd, Verdict
from mh_batch.jobs.status import Status
from mh_batch.worker.controller.conversation import ConversationRun, Finish, Generate, Record


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
    assert action.key.turn == 2
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
    play(run, lost())
    second = generate(run).request
    assert second.seed != first.seed
    assert second.sampling.max_tokens == 125
    play(run, generation())
    assert generate(run).request.sampling == first.sampling


def test_an_answer_that_a_check_rejects_is_tried_again_with_the_reason_as_guidance() -> None:
    run = ConversationRun(claimed((), ("a", "b")))
    generate(run)
    run.feed(generation("five"), rejected="it has no digit.")
    written = record(run)
    attempt = written.attempt
    assert (attempt.verdict, attempt.retry_reason) == (Verdict.RETRY, "rejected")
    assert (attempt.rejected, written.turn) == ("it has no digit.", None)
    again = generate(run)
    assert again.key.attempt == 2
    assert again.request.prompt.guidance == (
        "The last answer was not accepted: it has no digit. Give another one."
    )
    assert again.request.seed != attempt.seed
    play(run, generation("5"))
    after = generate(run).request.prompt
    assert after.guidance is None
    assert [m.content for m in after.messages] == ["a", "5", "b"]


def test_when_all_answers_are_rejected_the_first_is_kept_and_the_job_tells_why() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    for text in ("one", "two"):
        generate(run)
        run.feed(generation(text), rejected=f"{text} is no digit")
        written = record(run)
    assert written.turn is not None
    assert (written.turn.final, written.turn.complete, written.turn.attempts) == ("one", False, 2)
    assert written.end is not None
    assert (written.end.status, written.end.error_code) == (Status.INCOMPLETE, "rejected")
    assert (written.end.error or "").endswith("although it was rejected: one is no digit")


def test_only_a_good_answer_is_checked_and_a_call_is_none() -> None:
    run = ConversationRun(claimed((Message("system", "Be brief."), Message("user", "Hi"))))
    generate(run)
    good = run.good_answer(generation("five"))
    assert good is not None
    assert (good.key.attempt, good.final, good.analysis) == (1, "five", "thought")
    assert [m.content for m in good.messages] == ["Be brief.", "Hi"]
    for other in (malformed(), cut(), stuck(), generation(None, call="f")):
        assert run.good_answer(other) is None
    # what is wrong with it in itself counts first
    run.feed(malformed(), rejected="too short")
    attempt = record(run).attempt
    assert (attempt.retry_reason, attempt.rejected) == ("malformed", None)


def test_the_earlier_answers_are_part_of_what_a_later_one_answers() -> None:
    run = ConversationRun(claimed((), ("a", "b")))
    play(run, generation("1"))
    generate(run)
    good = run.good_answer(generation("2"))
    assert good is not None
    assert [m.content for m in good.messages] == ["a", "1", "b"]


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
    records = play(run, lost(), malformed(), lost())
    assert [r.attempt.verdict for r in records] == [
        Verdict.RETRY,
        Verdict.RETRY,
        Verdict.GIVE_UP,
    ]
    turn = records[-1].turn
    assert turn is not None
    assert (turn.key.attempt, turn.attempts, turn.complete) == (2, 3, False)
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
    (first,) = play(run, lost())
    assert first.end is not None
    assert first.end.status is Status.INCOMPLETE


def test_a_tool_call_ends_the_conversation() -> None:
    (done,) = play(ConversationRun(claimed()), generation(None, call="f"))
    assert done.end == JobEnd(Status.DONE)
    (early,) = play(ConversationRun(claimed((), ("a", "b"))), generation(None, call="f"))
    assert early.end is not None
    assert early.end.error_code == "tool_call_unanswered"


def test_the_last_attempt_rescues_the_analysis_of_the_one_before() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    play(run, stuck(StopReason.LOOP_DETECTED))
    assert generate(run).request.forced_final == ()
    thinking = msgspec.structs.replace(stuck(StopReason.LOOP_DETECTED), tokens=(7, 8, 9))
    play(run, thinking)
    request = generate(run).request
    assert (request.forced_final, request.continues) == ((7, 8, 9), None)
    assert (request.prompt.guidance, request.sampling.max_tokens) == (None, 100)
    (written,) = play(run, begun(generation("at last"), 7, 8, 9, 1))
    assert written.attempt.rescued
    assert written.turn is not None
    assert (written.turn.rescued, written.turn.attempts) == (True, 3)
    assert written.end == JobEnd(Status.DONE)


def test_a_rescue_without_room_for_an_opening_is_no_rescue() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    play(run, stuck(StopReason.LOOP_DETECTED))
    assert generate(run).request.forced_final
    (written,) = play(run, generation())
    assert not written.attempt.rescued


FIRST = msgspec.structs.replace(cut(), tokens=(7, 8))
REST = begun(msgspec.structs.replace(cut(), tokens=(9,)), 7, 8)
THOUGHTS = tuple(
    msgspec.structs.replace(each, parse=stuck().parse) for each in (FIRST, REST)
)  # what was cut while it was thinking, and what goes on from there


def test_what_was_cut_goes_on_with_its_seed_and_its_prompt_for_half_as_many_tokens() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    first = generate(run).request
    play(run, FIRST)
    second = generate(run)
    assert second.key.attempt == 2
    assert second.request == msgspec.structs.replace(first, continues=Continuation((7, 8), 50))
    (written,) = play(run, begun(generation("whole"), 7, 8))
    attempt, turn = written.attempt, written.turn
    assert (attempt.continues, attempt.rescued, attempt.seed) == (True, False, first.seed)
    assert attempt.sampling.max_tokens == 50
    assert turn is not None
    assert (turn.final, turn.rescued, turn.attempts, turn.complete) == ("whole", False, 2, True)
    assert written.end == JobEnd(Status.DONE)


def test_what_is_cut_again_starts_from_scratch_with_guidance_and_a_seed_of_its_own() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    records = play(run, FIRST, REST)
    assert [r.attempt.retry_reason for r in records] == ["length", "length"]
    third = generate(run)
    assert (third.key.attempt, third.request.continues) == (3, None)
    assert third.request.prompt.guidance
    assert third.request.sampling.max_tokens == 125
    assert third.request.seed not in {r.attempt.seed for r in records}


def test_an_attempt_with_guidance_is_gone_on_with_under_that_guidance() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    play(run, malformed())
    guided = generate(run).request
    assert guided.prompt.guidance
    play(run, FIRST)
    rest = generate(run).request
    assert rest == msgspec.structs.replace(guided, continues=Continuation((7, 8), 50))


def test_going_on_counts_to_no_cap() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    records = play(run, FIRST, REST, FIRST, REST)
    assert [r.attempt.verdict for r in records] == [*[Verdict.RETRY] * 3, Verdict.GIVE_UP]
    assert [r.attempt.continues for r in records] == [False, True, False, True]
    turn, end = records[-1].turn, records[-1].end
    assert turn is not None
    assert end is not None
    assert (turn.attempts, turn.complete, end.error_code) == (4, False, "length")


def test_a_single_attempt_is_gone_on_with_and_no_other_is_made() -> None:
    run = ConversationRun(claimed(max_attempts=1))
    records = play(run, FIRST, REST)
    assert [r.attempt.verdict for r in records] == [Verdict.RETRY, Verdict.GIVE_UP]


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (malformed(), "malformed"),
        (generation(stop=StopReason.LOOP_DETECTED), "loop_detected"),
        (generation("Fine.", analysis="so on and " * 200), "repetition"),
    ],
)
def test_what_goes_wrong_while_going_on_starts_from_scratch_as_if_it_were_one_attempt(
    worse: Generation, reason: str
) -> None:
    run, other = ConversationRun(claimed()), ConversationRun(claimed())
    (_, second) = play(run, FIRST, begun(worse, 7, 8))
    assert second.attempt.retry_reason == reason
    play(other, worse)
    mine, theirs = generate(run).request, generate(other).request
    assert mine == msgspec.structs.replace(theirs, seed=mine.seed)


def test_thoughts_that_were_gone_on_with_are_rescued_from_their_beginning() -> None:
    run = ConversationRun(claimed(max_attempts=2, max_tokens=100))
    play(run, *THOUGHTS)
    request = generate(run).request
    assert (request.forced_final, request.continues) == ((7, 8, 9), None)
    assert (request.prompt.guidance, request.sampling.max_tokens) == (None, 100)
    (written,) = play(run, begun(generation("at last"), 7, 8, 9, 1))
    assert (written.attempt.rescued, written.attempt.continues) == (True, False)
    assert written.end == JobEnd(Status.DONE)


def test_what_was_cut_in_circles_starts_from_scratch_as_a_loop() -> None:
    run = ConversationRun(claimed())
    (written,) = play(run, CIRCLES)
    assert written.attempt.retry_reason == "loop_detected"
    request = generate(run).request
    assert (request.continues, request.sampling.loop_detection) == (None, "full")


def test_a_rescue_that_was_cut_is_the_end() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    records = play(run, *THOUGHTS, begun(cut(), 7, 8, 9, 1))
    assert records[-1].attempt.verdict is Verdict.GIVE_UP


def test_of_an_answer_that_was_cut_twice_all_is_kept() -> None:
    run = ConversationRun(claimed(max_attempts=1))
    texts = ("one", "one, two")
    parts = [
        generation(text, problems=("truncated",), stop=StopReason.MAX_TOKENS) for text in texts
    ]
    records = play(run, parts[0], begun(parts[1], 1, 2, 3))
    assert records[-1].turn is not None
    assert records[-1].turn.final == "one, two"


def test_what_does_not_fit_after_all_is_an_attempt_from_scratch() -> None:
    run = ConversationRun(claimed(max_attempts=2))
    play(run, FIRST)
    assert generate(run).request.continues
    (written,) = play(run, malformed())
    assert (written.attempt.continues, written.attempt.verdict) == (False, Verdict.GIVE_UP)


def test_what_was_cut_before_it_was_put_back_is_not_gone_on_with() -> None:
    job = claimed(max_attempts=1, max_tokens=100)
    records = play(ConversationRun(job), FIRST)
    again = generate(requeued(job, *records, without=0))
    assert (again.key.attempt, again.request.continues) == (2, None)


def test_a_call_that_was_cut_is_answered_once_it_is_whole() -> None:
    run = ConversationRun(claimed(tool_results={"f": "42"}))
    play(run, FIRST, begun(generation(None, call="f"), 7, 8))
    messages = generate(run).request.prompt.messages
    assert [m.role for m in messages] == ["user", "assistant", "tool"]


def test_a_tool_that_has_a_result_is_answered_and_the_turn_goes_on() -> None:
    run = ConversationRun(claimed(turns=("more",), tool_results={"f": "42"}))
    first, second = play(run, generation(None, call="f"), generation("It is 42."))
    assert first.turn is not None
    assert (first.turn.key.step, first.turn.finish_reason, first.end) == (0, "tool_calls", None)
    assert second.turn is not None
    assert (second.turn.key.step, second.turn.user) == (1, None)
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


def test_a_call_that_nobody_answered_is_not_in_what_later_turns_see() -> None:
    run = ConversationRun(claimed((), ("a", "b"), max_attempts=1))
    play(run, generation("1", problems=("bad_arguments",), call="f"))
    assert generate(run).request.prompt.messages[1].tool_calls == ()


def requeued(job: ClaimedJob, *records: Record, without: int) -> ConversationRun:
    """The run of a job put back into the queue, its last `without` settled steps deleted."""
    turns = [r.turn for r in records if r.turn is not None]
    kept = tuple(turns[: len(turns) - without])
    recorded = History(tuple(r.attempt for r in records), kept)
    return ConversationRun(msgspec.structs.replace(job, round=job.round + 1), recorded)


def test_a_requeued_job_counts_its_attempts_on_with_a_fresh_cap() -> None:
    job = claimed((), ("a", "b"), max_attempts=2, max_tokens=100)
    records = play(ConversationRun(job), generation("1"), lost(), lost())
    run = requeued(job, *records, without=1)
    again = generate(run)
    assert (again.key.turn, again.key.attempt) == (2, 3)
    assert again.request.sampling.max_tokens == 100
    assert again.request.seed not in {r.attempt.seed for r in records}
    fourth, fifth = play(run, lost(), generation("2"))
    assert fourth.attempt.verdict is Verdict.RETRY
    assert (fifth.attempt.key.attempt, fifth.attempt.round) == (4, 1)
    assert fifth.turn is not None
    assert (fifth.turn.attempts, fifth.end) == (4, JobEnd(Status.DONE))


def test_what_follows_an_answer_is_asked_anew_when_the_answer_is_another_one() -> None:
    job = claimed((), ("a", "b"), max_attempts=1)
    records = play(ConversationRun(job), malformed(), generation("2"))
    turns = [r.turn for r in records if r.turn is not None]
    recorded = History(tuple(r.attempt for r in records), (turns[1],))
    run = ConversationRun(msgspec.structs.replace(job, round=1), recorded)
    play(run, generation("1"))
    assert (generate(run).key.turn, generate(run).key.attempt) == (2, 2)


def test_a_requeued_job_that_does_worse_keeps_the_answer_it_had() -> None:
    job = claimed(max_attempts=1)
    records = play(ConversationRun(job), malformed())
    run = requeued(job, *records, without=1)
    (written,) = play(run, lost())
    assert written.turn is not None
    assert (written.turn.key.attempt, written.turn.final) == (1, "answer")


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


def test_resume_takes_the_turn_that_was_recorded_whatever_would_be_kept_today() -> None:
    job = claimed((), ("a", "b"), max_attempts=2)
    records = play(ConversationRun(job), generation("1", problems=("x",)), malformed())
    turn = records[-1].turn
    assert turn is not None
    other = msgspec.structs.replace(
        turn, key=msgspec.structs.replace(turn.key, attempt=2), final="kept then"
    )
    recorded = History(tuple(r.attempt for r in records), (other,))
    messages = generate(ConversationRun(job, recorded)).request.prompt.messages
    assert [m.content for m in messages] == ["a", "kept then", "b"]


def test_the_sampling_on_record_is_what_the_context_left_of_it() -> None:
    run = ConversationRun(claimed(max_tokens=100))
    (written,) = play(run, msgspec.structs.replace(lost(), max_tokens=65))
    assert written.attempt.sampling.max_tokens == 65
    # no room to go on where the context is the limit
    assert generate(run).request.prompt.guidance


@given(kinds, jobs)
def test_resume_from_any_prefix_goes_on_as_the_uninterrupted_run(
    answers: list[tuple[str, bool]], job: ClaimedJob
) -> None:
    run = ConversationRun(job)
    attempts: list[Attempt] = []
    settled: list[CompletedStep] = []
    for index, (kind, fits) in enumerate(answers):
        assert_same_course(job, History(tuple(attempts), tuple(settled)), run)
        action = run.next()
        if isinstance(action, Finish):
            return
        assert isinstance(action, Generate)
        made = answer(kind, fits, index, action.request)
        run.feed(made, rejected=rejection(kind, index))
        written = record(run)
        attempts.append(written.attempt)
        if written.turn is not None:
            settled.append(written.turn)
    assert_same_course(job, History(tuple(attempts), tuple(settled)), run)


def assert_same_course(job: ClaimedJob, recorded: History, run: ConversationRun) -> None:
    resumed = ConversationRun(job, recorded)
    assert resumed.next() == run.next()


@given(kinds, jobs)
def test_no_answer_has_more_attempts_from_scratch_than_its_cap_and_each_is_gone_on_with_once(
    answers: list[tuple[str, bool]], job: ClaimedJob
) -> None:
    run = ConversationRun(job)
    attempts: dict[object, list[Attempt]] = {}
    for index, (kind, fits) in enumerate(answers):
        action = run.next()
        if isinstance(action, Finish):
            break
        assert isinstance(action, Generate)
        # an engine goes on where it has told that there is room
        fits = fits or action.request.continues is not None
        made = answer(kind, fits, index, action.request)
        run.feed(made, rejected=rejection(kind, index))
        written = record(run).attempt
        attempts.setdefault(written.key.step_key, []).append(written)
    for tries in attempts.values():
        assert [a.key.attempt for a in tries] == list(range(1, len(tries) + 1))
        assert sum(not a.continues for a in tries) <= job.settings.control.max_attempts
        for before, after in pairwise(tries):
            assert before.verdict is Verdict.RETRY
            if after.continues:
                assert before.retry_reason in ("length", "incomplete_form")
                assert not before.continues
                assert after.seed == before.seed
                assert after.generation.response_prefill == before.generation.tokens


@pytest.mark.parametrize("reason", ["length", "malformed"])
def test_the_reason_of_a_retry_is_on_its_row(reason: str) -> None:
    run = ConversationRun(claimed())
    (written,) = play(run, cut() if reason == "length" else malformed())
    assert written.attempt.retry_reason == reason


def test_an_answer_of_an_earlier_round_to_another_conversation_is_not_kept() -> None:
    job = claimed((), ("a", "b"), max_attempts=1)
    old = play(ConversationRun(job), malformed(), generation("follows the old answer"))
    assert [record.turn is not None for record in old] == [True, True]
    # `retry` forgets the turn that was not complete, and what came after it
    again = msgspec.structs.replace(job, round=1)
    run = ConversationRun(again, History(tuple(record.attempt for record in old), ()))
    new = play(run, generation("new answer"), malformed())
    turn = new[-1].turn
    assert turn is not None
    assert (turn.final, turn.key.attempt, turn.attempts) == ("answer", 2, 2)
    assert new[-1].end == JobEnd(
        Status.INCOMPLETE, "malformed", "the attempts of turn 2 ran out; the best one is kept"
    )


def test_the_form_of_the_settings_is_in_every_request_and_its_json_in_the_turn() -> None:
    run = ConversationRun(claimed(structured_outputs={"json_object": True}))
    assert generate(run).request.prompt.form == Form("json_object")
    first, second = play(run, generation("5", problems=("form_violated",)), generation(' {"a": 5}'))
    assert (first.attempt.retry_reason, first.turn) == ("rejected", None)
    assert second.turn is not None
    assert (second.turn.final, second.turn.parsed) == (' {"a": 5}', '{"a": 5}')


def test_an_answer_that_never_got_its_form_is_kept_without_json() -> None:
    run = ConversationRun(claimed(structured_outputs={"json_object": True}, max_attempts=1))
    (only,) = play(run, generation("5", problems=("form_violated",)))
    assert only.turn is not None
    assert (only.turn.final, only.turn.parsed, only.turn.complete) == ("5", None, False)
    assert only.end == JobEnd(
        Status.INCOMPLETE, "rejected", "the attempts of turn 1 ran out; the best one is kept"
    )
