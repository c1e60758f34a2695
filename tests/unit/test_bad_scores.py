"""Scores that cannot be right: which rows are left out, of what, and when that is too much."""

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlkd import KDRL, OPD, RLAD, Trainer
from rlkd.algorithms.gkd import GKD
from rlkd.resume import Resumption, set_aside
from rlkd.teacher.base import TeacherError, TokenScores
from rlkd.teacher.cached import Cached
from rlkd.teacher.check import Doubtful, check_alignment, stop
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.scores import faults_of
from rlkd.teacher.several import Mixed
from rlkd.teacher.wrapping import Wrapping
from rlkd.training.bad_scores import BATCHES, KEPT, BadScores, raise_too_many
from tests.parity.test_trl import arguments, reward


class Spoilt(LocalTeacher):
    """A local teacher that says what is no score of some rows."""

    rows = (2, 5)
    value = math.nan

    def _score(self, prompt_ids, completion_ids, temperature, keep_hidden):
        scores = super()._score(prompt_ids, completion_ids, temperature, keep_hidden)
        for row in self.rows:
            if row < len(scores):
                s = scores[row]
                hidden = s.hidden_TH * self.value if s.hidden_TH is not None else None
                scores[row] = TokenScores(s.token_ids, s.logp.abs() + 1 + self.value, hidden)
        return scores


def make(student, teacher, prompts, tmp_path, more=None, **given):
    given = {"algorithm": RLAD(), "teacher_check": "off", "on_bad_scores": "mask"} | given
    args = arguments(tmp_path, **(more or {}))
    return Trainer(student, reward, args, prompts, teacher=teacher, **given)


def spoilt(teacher, rows=(2, 5), value=math.nan):
    made = Spoilt.from_pretrained(teacher)
    made.rows, made.value = rows, value
    return made


def batch_of(trainer, prompts):
    torch.manual_seed(0)
    trainer.model.train()
    return trainer._generate_and_score_completions([prompts[i // 4] for i in range(16)])


@pytest.mark.parametrize("algorithm", [RLAD(), GKD()], ids=["scores", "whole vocabulary"])
def test_a_bad_row_is_masked_whole_and_nothing_else_moves(
    algorithm, student, teacher, prompts, tmp_path
):
    def batch(taught):
        trainer = make(student, taught, prompts, tmp_path, algorithm=algorithm)
        return trainer, batch_of(trainer, prompts)

    _, sound = batch(LocalTeacher.from_pretrained(teacher))
    trainer, found = batch(spoilt(teacher))
    masks = sound["completion_mask"].clone()
    masks[[2, 5]] = 0
    assert torch.equal(found["completion_mask"], masks)
    assert found["num_items_in_batch"] == masks.sum() < sound["num_items_in_batch"]
    assert torch.equal(found["advantages"], sound["advantages"])  # its reward counts
    others = [row for row in range(16) if row not in (2, 5)]
    for name in ("teacher_per_token_logps", "teacher_hidden_BTH"):
        if name in sound:
            assert torch.equal(found[name][others], sound[name][others])
            assert (found[name][[2, 5]] == 0).all()
    assert ("teacher_hidden_BTH" in found) == isinstance(algorithm, GKD)
    assert trainer._metrics["train"]["teacher/masked_rows"] == [2.0]


@pytest.mark.parametrize("of", ["the scores", "all that was sent"])
def test_a_rank_without_one_sound_row_goes_on_beside_others(
    of, student, teacher, prompts, tmp_path, monkeypatch
):
    taught = spoilt(teacher, range(16))
    if of == "all that was sent":
        monkeypatch.setattr(taught, "_score", lambda *asked, **how: [])
    trainer = make(student, taught, prompts, tmp_path, algorithm=GKD())
    monkeypatch.setattr(trainer.bad_scores, "count", lambda *found: None)  # they have some
    output = batch_of(trainer, prompts)
    head, like_BT = taught.head().weight_VH, output["completion_ids"]
    assert output["teacher_hidden_BTH"].shape == (*like_BT.shape, head.shape[1])
    assert output["teacher_hidden_BTH"].dtype == head.dtype
    for name in ("teacher_hidden_BTH", "teacher_per_token_logps", "completion_mask"):
        assert (output[name] == 0).all()


HIDDEN = {
    "none": (lambda hidden_TH: None, "no hidden states in row 2, where"),
    "too few": (lambda hidden_TH: hidden_TH[1:], r"hidden states of \(\d+, 48\) in row 2, where"),
    "too wide": (lambda hidden_TH: hidden_TH.repeat(1, 2), r"of \(\d+, 96\) .* \(\d+, 48\) are"),
}


@pytest.mark.parametrize(("spoil", "said"), HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("way", ["mask", "stop"])
def test_hidden_states_that_are_none_of_the_answer_are_a_bad_row(
    spoil, said, way, student, teacher, prompts, tmp_path
):
    class Headless(LocalTeacher):
        def score_with_hidden(self, *asked):
            scores = super().score_with_hidden(*asked)
            scores[2] = replace(scores[2], hidden_TH=spoil(scores[2].hidden_TH))
            return scores

    taught = Headless.from_pretrained(teacher)
    trainer = make(student, taught, prompts, tmp_path, algorithm=GKD(), on_bad_scores=way)
    if way == "stop":
        with pytest.raises(TeacherError, match=said):
            batch_of(trainer, prompts)
        return
    output = batch_of(trainer, prompts)
    assert (output["completion_mask"].sum(-1) == 0).nonzero().flatten().tolist() == [2]
    assert (output["teacher_hidden_BTH"][2] == 0).all()
    (line,) = kept(trainer)
    assert re.search(said, line["reason"])


@pytest.mark.parametrize("algorithm", [RLAD(), KDRL(), OPD()], ids=lambda a: type(a).__name__)
def test_what_was_said_of_a_masked_row_is_nowhere_in_an_update(
    algorithm, student, teacher, prompts, tmp_path
):
    def weights(value):
        trainer = make(
            student, spoilt(teacher, value=value), prompts, tmp_path, algorithm=algorithm
        )
        trainer.train()
        return trainer.model.state_dict()

    one, other = weights(math.nan), weights(0.5)
    for name, weight in one.items():
        assert torch.equal(weight, other[name])
        assert weight.isfinite().all()


def test_what_tools_wrote_is_masked_with_the_row(student, teacher, prompts, tmp_path):
    trainer = make(student, spoilt(teacher), prompts, tmp_path)
    trainer.model.train()
    output = {
        "completion_mask": torch.ones(4, 3, dtype=torch.int64),
        "tool_mask": torch.tensor([[1, 0, 1]] * 4),
    }
    trainer._mask(output, {1: "no reason"}, 4)
    assert output["tool_mask"].sum(-1).tolist() == [2, 0, 2, 2]
    assert output["num_items_in_batch"] == 6


def test_a_row_that_is_masked_anyway_is_not_looked_at(student, teacher, prompts, tmp_path):
    """TRL masks it, so it is not sent; whatever comes back for it is nothing wrong."""

    class Talkative(LocalTeacher):
        def score(self, prompt_ids, completion_ids, temperature):
            junk = TokenScores(torch.tensor([9]), torch.tensor([math.nan]))
            scores = super().score(prompt_ids, completion_ids, temperature)
            self.silent = [not ids for ids in completion_ids]
            return [junk if none else s for s, none in zip(scores, self.silent, strict=True)]

    taught = Talkative.from_pretrained(teacher)
    more = {"mask_truncated_completions": True}
    trainer = make(student, taught, prompts, tmp_path, more)
    found = batch_of(trainer, prompts)
    cut = [ids[-1] != 1 for ids in trainer._sampled_ids[1]]
    assert taught.silent == cut
    assert 0 < sum(cut) < 16
    assert trainer._metrics["train"]["teacher/masked_rows"] == [0.0]
    assert (found["completion_mask"].sum(-1) == 0).tolist() == cut


def test_stop_names_the_file_with_the_answer(student, teacher, prompts, tmp_path):
    trainer = make(student, spoilt(teacher), prompts, tmp_path, on_bad_scores="stop")
    with pytest.raises(TeacherError, match=r"nan in row 2.* scores: .*bad_scores-rank0\.jsonl\)"):
        trainer.train()
    lines = [json.loads(line) for line in trainer.bad_scores.path.read_text().splitlines()]
    assert [line["row"] for line in lines] == [2, 5]
    first = lines[0]
    assert first["step"] == 1
    assert first["prompt"] == trainer._inputs[2]["prompt"]
    assert first["completion_ids"] == first["scored_ids"] == trainer._sampled_ids[1][2]
    assert first["completion"] == trainer._tokenizer.decode(first["completion_ids"])
    assert first["logp"] == ["nan"] * len(first["logp"])
    assert "log-probability of nan in row 2" in first["reason"]


def test_only_stop_and_mask_are_known(student, teacher, prompts, tmp_path):
    with pytest.raises(ValueError, match="on_bad_scores is 'ignore'; it is stop, mask"):
        make(student, teacher, prompts, tmp_path, on_bad_scores="ignore")


# -- how many are too many -------------------------------------------------------------------------


def counted(tmp_path, *bad, rows=100):
    counter = BadScores(tmp_path, 0)
    return [counter.count(number, rows) is not None for number in bad]


def test_more_than_a_quarter_of_five_batches_is_too_much(tmp_path):
    assert BATCHES == 5
    assert counted(tmp_path, 25, 25, 25, 25, 25, 25) == [False] * 6
    assert counted(tmp_path, 25, 25, 25, 25, 26) == [False] * 4 + [True]
    assert counted(tmp_path, 99, 26) == [False, False]
    assert counted(tmp_path, 99, 27) == [False, True]
    assert counted(tmp_path, 99, 0, 0, 0, 0, 99) == [False] * 6  # the first is forgotten
    assert counted(tmp_path, 100) == [True]
    assert counted(tmp_path, 0, rows=0) == [False]  # TRL masked them all
    why = BadScores(tmp_path, 0).count(3, 3)
    assert why == "not one of the 3 answers of a batch has sound scores"


def test_a_resumed_run_remembers_the_batches_before(tmp_path):
    first, second = BadScores(tmp_path, 0), BadScores(tmp_path, 0)
    assert first.count(99, 100) is None
    assert second.restore(first.state()) == "99 answers of late without the teacher's scores"
    assert second.count(27, 100) == (
        "126 of the last 200 answers had no sound scores, more than 25% of those of 5 batches"
    )


def test_the_file_ends_somewhere_and_a_full_disk_ends_nothing(tmp_path):
    ids, rows = [[3]] * 150, [{"prompt": "p"}] * 150
    scores = [TokenScores(torch.tensor([3]), torch.tensor([-math.inf]))] * 150
    faults = dict.fromkeys(range(150), "why")
    kept = BadScores(tmp_path / "run", 3)
    assert kept.keep(1, faults, rows, ids, ["t"] * 150, scores) == str(kept.path)
    kept.keep(2, faults, rows, ids, ["t"] * 150, scores)
    lines = [json.loads(line) for line in kept.path.read_text().splitlines()]
    assert len(lines) == KEPT == 100
    assert lines[0]["logp"] == ["-inf"]
    assert kept.path.name == "bad_scores-rank3.jsonl"
    (tmp_path / "file").touch()
    nowhere = BadScores(tmp_path / "file", 0)
    assert "could not be written" in nowhere.keep(1, faults, rows, ids, ["t"] * 150, scores)


def test_what_an_attempt_found_after_the_checkpoint_is_set_aside(tmp_path):
    def keep(rank, step):
        BadScores(tmp_path, rank).keep(step, {0: "why"}, [{}], [[3]], ["one\u2028line"], [None])

    def steps(folder, rank=0):
        text = (folder / f"bad_scores-rank{rank}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line)["step"] for line in text.split("\n") if line]

    for rank, step in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 2), (0, 4)):
        keep(rank, step)
    for rank, torn in ((0, '{"step": 2}'), (2, '{"step": 2, "ro')):  # by a kill
        with (tmp_path / f"bad_scores-rank{rank}.jsonl").open("a") as file:
            file.write(torn)
    config: Any = SimpleNamespace(folder=tmp_path)
    said = set_aside(config, Resumption(2, 2, "id", "checkpoint-2"))
    aside = tmp_path / "discarded" / "attempt-1"
    assert said == {"set aside": f"5 lines of bad_scores-rank*.jsonl, to {aside}"}
    assert (steps(tmp_path), steps(aside), steps(aside, 1)) == ([1, 2], [3, 4, 2], [3])
    assert not (tmp_path / "bad_scores-rank1.jsonl").exists()
    assert steps(tmp_path, 2) == [2]
    keep(0, 3)
    assert steps(tmp_path) == [1, 2, 3]


# -- teachers made of others -----------------------------------------------------------------------


def test_a_mixture_says_of_which_part_the_row_is_bad(teacher):
    mixed = Mixed({"good": LocalTeacher.from_pretrained(teacher), "bad": spoilt(teacher, (1,))})
    prompts, answers = [[4], [5], [6]], [[7, 8], [8, 9], [9, 7]]
    scores = mixed.score(prompts, answers, 1.0)
    assert [scored.fault is None for scored in scores] == [True, False, True]
    assert faults_of("mixed", scores, answers) == {1: scores[1].fault}
    assert "bad gave a log-probability of nan in row 1" in scores[1].fault


def test_a_cache_remembers_sound_scores_only(teacher, tmp_path):
    bad = spoilt(teacher, (1,))
    cached = Cached(bad, str(tmp_path / "c.db"), of="t")
    prompts, answers = [[4], [5], [6]], [[7, 8], [8, 9], [9, 7]]
    bad.value = 1.0  # above 0
    assert set(faults_of("c", cached.score(prompts, answers, 1.0), answers)) == {1}
    bad.rows = ()
    assert faults_of("c", cached.score(prompts, answers, 1.0), answers) == {}
    assert (cached.hits, cached.misses) == (2, 4)


MALFORMED = {
    "nothing": (lambda s: None, "gave NoneType"),
    "a list": (lambda s: TokenScores(s.token_ids.tolist(), s.logp.tolist()), "two tensors of one"),
    "a table": (lambda s: TokenScores(s.token_ids, s.logp.unsqueeze(0)), "two tensors of one"),
}


@pytest.mark.parametrize(("spoil", "said"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("way", ["mask", "stop"])
def test_what_is_no_scores_at_all_is_a_bad_row_too(
    spoil, said, way, student, teacher, prompts, tmp_path
):
    class Malformed(LocalTeacher):
        def score_rows(self, *asked):
            first, *others = super().score_rows(*asked)
            return [spoil(first), *others]

    trainer = make(
        student, Malformed.from_pretrained(teacher), prompts, tmp_path, on_bad_scores=way
    )
    if way == "stop":
        with pytest.raises(TeacherError, match=said):
            batch_of(trainer, prompts)
    else:
        output = batch_of(trainer, prompts)
        assert output["completion_mask"][0].sum() == 0
        assert output["completion_mask"][1:].any(-1).all()
    (line,) = (tmp_path / "bad_scores-rank0.jsonl").read_text().splitlines()
    assert said in json.loads(line)["reason"]


def test_a_teacher_that_returns_nothing_is_named(student, teacher, prompts, tmp_path):
    class Silent(LocalTeacher):
        def score_rows(self, *asked):
            return None

    trainer = make(student, Silent.from_pretrained(teacher), prompts, tmp_path)
    with pytest.raises(TeacherError, match="scores are NoneType, not a list of TokenScores"):
        batch_of(trainer, prompts)


@pytest.mark.parametrize("check", ["error", "warn"])
def test_a_fault_in_the_first_check_is_no_doubt(check, student, teacher, prompts, tmp_path):
    """Nothing that `warn` would go on with; kept in the file as later on."""
    taught, ways = spoilt(teacher, rows=(0,)), {"teacher_check": check, "on_bad_scores": "stop"}
    trainer = make(student, taught, prompts, tmp_path, **ways)
    with pytest.raises(
        TeacherError, match=r"log-probability of nan.* scores: .*rank0\.jsonl\)"
    ) as caught:
        batch_of(trainer, prompts)
    assert "set the teacher's check to warn" not in str(caught.value)
    (line,) = kept(trainer)
    # The first one of four different tokens.
    assert (line["row"], line["in_check"], line["step"]) == (1, True, 1)
    assert line["prompt"] == trainer._inputs[1]["prompt"]
    assert line["completion_ids"] == trainer._sampled_ids[1][1] == line["scored_ids"]


def kept(trainer):
    return [json.loads(line) for line in trainer.bad_scores.path.read_text().splitlines()]


class Peculiar(Wrapping):
    """Has no scores for some answers, whatever order their tokens are in."""

    def __init__(self, inner, poison):
        super().__init__(inner)
        self.poison, self.asked = poison, []

    def score_rows(self, rows, prompt_ids, completion_ids, temperature):
        self.asked.append([list(ids) for ids in completion_ids])
        scores = super().score_rows(rows, prompt_ids, completion_ids, temperature)
        return [
            TokenScores(s.token_ids, s.logp * math.nan) if self.poison(ids) else s
            for s, ids in zip(scores, completion_ids, strict=True)
        ]


def test_mask_goes_on_with_a_check_of_the_sound_ones(student, teacher, prompts, tmp_path, caplog):
    taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: False)
    trainer = make(student, taught, prompts, tmp_path, teacher_check="warn")
    batch_of(trainer, prompts)
    answers = trainer._sampled_ids[1]
    bad = [row for row in (1, 7) if len(set(answers[row])) >= 4]
    assert bad == [1, 7]  # long enough to be looked at
    whole = len(taught.asked[0])
    spoilt_ones = [sorted(answers[row]) for row in bad]

    taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: sorted(ids) in spoilt_ones)
    trainer = make(student, taught, prompts, tmp_path / "bad", teacher_check="warn")
    output = batch_of(trainer, prompts)
    assert len(taught.asked[0]) == whole
    for moved in taught.asked[5:7]:  # after four that are asked for alone
        assert [sorted(ids) for ids in moved].count(spoilt_ones[0]) == 0
        assert len(moved) == whole - len(bad)
    assert f"teacher check: {len(bad)} of {whole} answers are left out of it" in caplog.text
    assert "log-probability of nan in row 7" in kept(trainer)[-1]["reason"]
    lines = [(line["in_check"], line["row"]) for line in kept(trainer)]
    assert lines == [(True, row) for row in bad] + [(False, row) for row in bad]
    assert (output["completion_mask"].sum(-1) == 0).nonzero().flatten().tolist() == bad
    assert kept(trainer)[0]["prompt"] == trainer._inputs[1]["prompt"]


def test_a_fault_of_an_answer_whose_tokens_are_moved_is_kept_as_it_was_sent(
    student, teacher, prompts, tmp_path
):
    sound = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: False)
    batch_of(make(student, sound, prompts, tmp_path, teacher_check="warn"), prompts)
    moved = sound.asked[5][0]
    taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: ids == moved)
    trainer = make(student, taught, prompts, tmp_path / "bad", teacher_check="warn")
    batch_of(trainer, prompts)
    (line,) = kept(trainer)
    assert line["completion_ids"] == line["scored_ids"] == moved
    assert line["completion"] == trainer._tokenizer.decode(moved)
    assert trainer._metrics["train"]["teacher/masked_rows"] == [0.0]
    assert len(taught.asked[6]) == len(taught.asked[5]) - 1


@pytest.mark.parametrize("overlap", ["on", "off"])
def test_a_check_without_one_sound_answer_ends_with_the_fault(
    overlap, student, teacher, prompts, tmp_path
):
    taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: True)
    trainer = make(
        student, taught, prompts, tmp_path, teacher_check="warn", teacher_overlap=overlap
    )
    with pytest.raises(
        TeacherError,
        match=r"no answer of the teacher check has sound scores: .*log-probability of nan in row 1"
        r".*scores: .*rank0\.jsonl\)",
    ):
        batch_of(trainer, prompts)
    assert all(line["in_check"] for line in kept(trainer))


@pytest.mark.parametrize("max_rows", [2, 16])
def test_a_check_whose_long_answers_are_all_refused_looks_at_the_others(max_rows, teacher):
    """As a limit of length refuses them."""
    answers = [[7, 7], [7, 8, 9, 1, 2, 3], [8, 1], [9, 8, 7, 1, 2, 3], [], [5, 4, 3, 2, 1, 6]]
    prompts, left_out = [[4]] * len(answers), []

    def check(refused, way):
        taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: refused(len(ids)))
        return taught, check_alignment(taught, prompts, answers, 1.0, max_rows, judge=way)

    def note(bad, sent, said):
        left_out.extend(bad)

    taught, report = check(lambda length: length > 5, note)
    assert report is None
    assert left_out == [1, 3, 5]
    assert taught.asked[-1] == [[7, 7], [8, 1]]
    with pytest.raises(TeacherError, match=r"no answer of the teacher check .* nan in row 1"):
        check(lambda length: True, note)
    with pytest.raises(TeacherError, match="nan in row 1"):
        check(lambda length: length > 5, stop)


def test_a_check_whose_first_long_answers_are_refused_is_made_of_the_next(teacher):
    answers = [[7, 8, 9, 1, 2], [8, 7, 9, 1, 2], [9, 8, 1], [2, 3, 4, 5], [5, 4, 3, 2]]
    taught = Peculiar(LocalTeacher.from_pretrained(teacher), lambda ids: len(ids) == 5)
    with pytest.raises(Doubtful, match="teacher check on 2 answers"):  # they mean nothing to it
        check_alignment(taught, [[4]] * 5, answers, 1.0, 2, judge=lambda *found: None)
    assert taught.asked[:2] == [answers[:2], answers[3:]]


def test_the_end_names_a_fault_and_what_to_do(student, teacher, prompts, tmp_path):
    trainer = make(student, spoilt(teacher, rows=range(6)), prompts, tmp_path)
    trainer.bad_scores.count(15, 16)
    trainer.bad_scores.count(0, 16)
    with pytest.raises(
        TeacherError,
        match=r"21 of the last 48 answers .*; one of them: .*log-probability of nan in row 0.*"
        r"on_bad_scores is mask.*Look at the answers in .*rank0\.jsonl, mend the teacher .*resume",
    ):
        batch_of(trainer, prompts)


def test_what_another_rank_found_is_told_too(tmp_path):
    counter = BadScores(tmp_path, 1)
    why = counter.count(4, 4, "of rank 0.")
    with pytest.raises(
        TeacherError, match=r"one of them: of rank 0\. on_bad_scores .*rank\*\.jsonl"
    ):
        raise_too_many("t", str(why), counter)
    after = BadScores(tmp_path, 1)
    after.restore(counter.state())
    assert after.fault == "of rank 0."


def test_all_ranks_remember_the_same_fault(student, teacher, prompts, tmp_path, monkeypatch):
    """Also one without a bad answer of its own."""
    trainer = make(student, spoilt(teacher), prompts, tmp_path)
    trainer.model.train()
    monkeypatch.setattr(trainer, "_sum_over_ranks", lambda mine: mine + torch.tensor([1, 4]))
    monkeypatch.setattr(trainer, "gather_rows", lambda rows: [*rows, "of rank 1"])
    trainer._mask({"completion_mask": torch.ones(4, 3)}, {}, 4)
    assert trainer.bad_scores.fault == "of rank 1"
