"""Questions from files, lists or made up: what is wrong with their answers, and their splits."""

import dataclasses
import json

import numpy as np
import pytest

from sft_keras import Backbone, Data, Questions, Recipe, Stage
from sft_keras.core.errors import DataError, RecipeError
from sft_keras.sweeps.shared import TrialContext
from sft_keras.tasks import QuestionAnswering, TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.tasks.question_answering.examples import Answer, Question, align_answers

CONTEXT = "To be or not to be."


def asked(*answers, name="q"):
    return Question(name, CONTEXT, "?", tuple(Answer(*answer) for answer in answers))


def recipe_of(source):
    return Recipe(
        task=QuestionAnswering(sequence_length=64, doc_stride=24, max_question_length=16),
        data=Data(source=source, batch_size=8),
        backbone=Backbone(preset="tiny:bert"),
        stages=(Stage(name="head", epochs=1, learning_rate=1e-2),),
    )


def splits_of(source, seed=0):
    recipe = recipe_of(source)
    recipe.validate()
    return build_task(recipe).open_data(seed)


def squad_file(folder, articles, questions=2):
    """`articles` of three passages each; one question in eleven has no answer."""
    data, number = [], 0
    for article in range(articles):
        paragraphs = []
        for passage in range(3):
            qas = []
            for _ in range(questions):
                answers = [{"text": "word", "answer_start": 2}]
                qas.append(
                    {
                        "id": str(number),
                        "question": "What?",
                        "answers": answers if number % 11 else [],
                        "is_impossible": number % 11 == 0,
                    }
                )
                number += 1
            paragraphs.append({"context": f"A word {article} {passage}", "qas": qas})
        data.append({"title": f"T{article}", "paragraphs": paragraphs})
    file = folder / "squad.json"
    file.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")
    return f"squad:{file}"


def read(examples):
    return list(examples.stream(None).as_numpy_iterator())


@pytest.mark.parametrize(
    ("answers", "kept", "moved", "dropped"),
    [
        ([("or", 6)], [6], 0, 0),
        ([("or", 5)], [6], 1, 0),  # stands once, elsewhere
        ([("or", 400)], [6], 1, 0),
        ([("To", -19)], [0], 1, 0),  # not counted from the end
        ([("be", 4), ("or", 6)], [3, 6], 1, 0),  # occurs twice, once near
        ([("be", 400), ("or", 6)], [6], 0, 1),  # occurs twice, neither near
        ([("be", -1), ("or", 6)], [6], 0, 1),  # occurs twice, its position unknown
        ([("TO  BE", 1), ("or", 6)], [0, 6], 1, 0),  # other case and white space
        ([(" or ", 5), ("not\n", 9)], [6, 9], 0, 0),  # white space around it
        ([("been", 3), ("or", 6)], [6], 0, 1),  # stands nowhere
        ([("", 3), ("  ", 2), ("or", 6)], [6], 0, 2),  # no answers
        ([], [], 0, 0),
    ],
)
def test_answers_that_stand_elsewhere_are_moved_or_dropped(answers, kept, moved, dropped):
    found = align_answers([asked(*answers)])
    assert [answer.start for answer in found.questions[0].answers] == kept
    assert (len(found.moved), len(found.dropped_answers)) == (moved, dropped)
    assert found.dropped_questions == ()


def test_a_question_that_loses_all_its_answers_is_left_out_and_not_unanswerable():
    found = align_answers([asked(("been", 3), name="1"), asked(name="2")])
    assert [question.name for question in found.questions] == ["2"]
    assert found.dropped_questions == ("1",)


def test_the_text_of_an_answer_is_that_of_the_passage():
    found = align_answers([asked((" TO\nBE ", 1), ("or ", 6))])
    assert found.questions[0].answers == (Answer("To be", 0), Answer("or", 6))
    assert [len(each) for each in (found.moved, found.trimmed)] == [1, 1]


def test_the_nearest_occurrence_is_a_whole_word_if_there_is_one():
    question = Question("q", "1810 or 10 or 10", "?", (Answer("10", 4),))
    assert align_answers([question]).questions[0].answers == (Answer("10", 8),)
    tied = Question("q", "\u65e5\u672c\u65e5", "?", (Answer("\u65e5", 1),))
    assert align_answers([tied]).questions[0].answers == (Answer("\u65e5", 0),)


def test_what_was_wrong_is_counted_and_the_first_five_are_shown(tmp_path):
    source = squad_file(tmp_path, articles=4)
    content = json.loads((tmp_path / "squad.json").read_text())
    wrong = [content["data"][number]["paragraphs"][0]["qas"][1] for number in range(4)]
    for number, question in enumerate(wrong):
        question["answers"] = [{"text": "word", "answer_start": 3}]
        question["answers"] += [{"text": "nothing", "answer_start": 0}] * (number % 2 + 1)
    wrong[0]["answers"] = [{"text": "nothing", "answer_start": 0}]
    (tmp_path / "squad.json").write_text(json.dumps(content))
    splits = splits_of(source)
    assert splits.info.facts["dropped"] == {
        "answers that are not in the passage": 6,
        "questions without another answer": 1,
    }
    assert sum(splits.info.sizes.values()) == 23
    moved, dropped, questions = splits.info.facts["notes"]
    assert moved.startswith("3 answers are not in the passage at answer_start")
    assert moved.count("'word' at 3") == 3
    assert dropped.startswith("6 answers are not in the passage, or several times")
    assert dropped.count("'nothing' at 0") == 5 and dropped.endswith(" and 1 more.")
    assert questions == "1 of 24 questions had no other answer and were dropped: 1."


def test_a_source_none_of_whose_answers_occur_is_refused():
    absent = Questions([("q", f"{n} w", [("absent", n)]) for n in range(9)])
    with pytest.raises(DataError, match=r"No answer of .* occurs in its passage.*train\[0\]: 'abs"):
        splits_of(absent)


def test_no_article_is_in_two_splits(tmp_path):
    splits = splits_of(squad_file(tmp_path, articles=12))
    articles = [
        {example["context"].split()[2] for example in read(split)}
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert [len(each) for each in articles] == [10, 1, 1]
    assert len(set.union(*articles)) == 12
    assert splits.info.origin["test"] == (
        "created here: 0.1 of the articles of train, none of which is in two splits, seed 0"
    )
    again = splits_of(squad_file(tmp_path, articles=12))
    assert again.test.ids == splits.test.ids
    assert splits_of(squad_file(tmp_path, articles=12), seed=1).test.ids != splits.test.ids


def test_of_one_article_no_passage_is_in_two_splits(tmp_path):
    splits = splits_of(squad_file(tmp_path, articles=1))
    passages = [
        {example["context"] for example in read(split)}
        for split in (splits.train, splits.validation, splits.test)
    ]
    assert [len(each) for each in passages] == [1, 1, 1]
    assert len(set.union(*passages)) == 3
    assert "passages of train" in splits.info.origin["test"]


def test_questions_have_classes_only_where_some_have_no_answer(tmp_path):
    info = splits_of(squad_file(tmp_path, articles=12)).info
    assert info.class_names == ("answer", "no answer")
    assert np.sum(list(info.counts.values()), axis=0).tolist() == [65, 7]
    every = splits_of(Questions([("q", f"{n} w", ["w"]) for n in range(9)])).info
    assert (every.class_names, every.counts["train"]) == ((), ())
    assert every.summary() == "Questions(train=9): 7 train, 1 validation, 1 test"


def test_lists_have_answers_with_or_without_their_place():
    given = [("q?", "a b a", [("a", 4)]), ("r", "a b a", ["b"]), ("s", "a b a", [])]
    splits = splits_of(Questions(given * 2, given, given))
    first, second, third = read(splits.validation)
    assert (first["question"], first["answers"].tolist()) == (b"q?", [b"a"])
    assert [each["starts"].tolist() for each in (first, second, third)] == [[4], [2], []]
    assert splits.validation.ids == ("validation[0]", "validation[1]", "validation[2]")


def test_lists_that_are_no_questions_are_refused():
    with pytest.raises(DataError, match=r"`train` must be .*passage, answers\).*rows.*1 entries"):
        splits_of(Questions([("q", "a b", ["b"]), ("q", "a b", "b")]))
    with pytest.raises(DataError, match=r"must occur exactly once.*'a' in test\[0\]"):
        splits_of(Questions([("q", "a b", ["b"])], None, [("q", "a b a", ["a"])]))


def test_too_few_passages_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"at least 3 passages .*Received: 2"):
        splits_of(Questions([("q", f"{n % 2} w", ["w"]) for n in range(8)]))
    few = Questions([("q", f"{n % 4} w", ["w"]) for n in range(8)])
    recipe = recipe_of(few)
    data = dataclasses.replace(recipe.data, test=0.5, validation=0.49)
    with pytest.raises(
        DataError, match=r"'validation' split cannot be created: it needs 2 of 2 groups"
    ):
        build_task(dataclasses.replace(recipe, data=data)).open_data(0)
    with pytest.raises(DataError, match=r"'synthetic:PASSAGES' with .* at least 6"):
        splits_of("synthetic:3")


def test_a_missing_file_is_said_before_anything_is_opened():
    with pytest.raises(DataError, match=r"`data.source` must name a file that exists.*squad:PATH"):
        Data(source="squad:nowhere.json").require_path()
    with pytest.raises(RecipeError, match=r"for QuestionAnswering must be one of squad, synthetic"):
        recipe_of("csv:a.csv").validate()
    recipe = recipe_of("squad:a.json")
    with pytest.raises(RecipeError, match=r"for TextClassification must be one of"):
        Recipe(
            task=TextClassification(),
            data=recipe.data,
            backbone=recipe.backbone,
            stages=recipe.stages,
        ).validate()


def test_made_up_answers_stand_in_their_passages():
    splits = splits_of("synthetic:12")
    examples = [*read(splits.train), *read(splits.test)]
    assert {len(example["answers"]) for example in examples} == {0, 1}
    for example in examples:
        word, mark = example["question"].decode().split()
        assert mark == "?"
        for text, start in zip(example["answers"], example["starts"]):
            assert example["context"][start - 4 :].startswith(f"{word} ".encode() + text)


def test_the_stream_in_random_order_holds_each_question_once():
    splits = splits_of("synthetic:12")
    indices = [int(each["index"]) for each in splits.train.stream(np.array([1, 2]))]
    assert sorted(indices) == list(range(len(splits.train))) != indices
    part = splits.train.subset(np.array([1, 3]))
    assert [each["question"] for each in read(part)] == [
        read(splits.train)[place]["question"] for place in (1, 3)
    ]


@pytest.mark.slow
def test_folds_divide_passages_and_take_all_windows_of_a_question(tmp_path):
    recipe = recipe_of("synthetic:12")
    bench = TrialContext(lambda done, total: None)
    held = []
    for trial in bench.data(recipe, split_seed=0, folds=3):
        names = {}
        for split, prepared in trial.prepared.items():
            names[split] = {window.question.name for window in prepared.details}
            # Every window of a question is there, and its y with it.
            whole = {window.question.name: 0 for window in prepared.details}
            for window in prepared.details:
                assert window.passage_offset == 24 * whole[window.question.name]
                whole[window.question.name] += 1
            assert set(whole.values()) == {4}
            assert len(prepared.targets) == len(prepared.features) == len(prepared.details)
            assert len(names[split]) == trial.info.sizes[split]
        passages = [
            {window.passage.text for window in trial.prepared[split].details}
            for split in ("train", "validation")
        ]
        assert not passages[0] & passages[1]
        assert trial.info.origin["train"].endswith("of 3, in whole groups")
        held.append(names["validation"])
    assert len(held) == 3 and not held[0] & held[1]
    few = recipe_of(Questions([("q", f"{n % 4} w", ["w"]) for n in range(12)]))
    with pytest.raises(DataError, match=r"at least 4 groups .*Received: 3"):
        list(bench.data(few, split_seed=0, folds=4))


@pytest.mark.slow
@pytest.mark.shared
def test_real_answers_are_found_again_from_their_tokens(shared_folder):
    import tensorflow as tf

    recipe = recipe_of(f"squad:{shared_folder / 'data' / 'xquad' / 'xquad.en.json'}")
    backbone = Backbone(preset=f"hf:{shared_folder / 'weights' / 'minilm_l6_fp16'}")
    task = QuestionAnswering(sequence_length=128, doc_stride=48, max_question_length=48)
    recipe = dataclasses.replace(recipe, task=task, backbone=backbone)
    splits = build_task(recipe).open_data(0)
    task = build_task(recipe, splits.info)
    assert sum(splits.info.sizes.values()) == 1190
    assert splits.info.facts["dropped"]["questions without another answer"] == 0
    prepared = task.preprocessor.preprocess(splits, lambda done, total: None)
    articles = [set(split.examples.groups) for split in prepared.values()]
    assert [len(each) for each in articles] == [38, 5, 5] and len(set.union(*articles)) == 48
    test = prepared["test"]
    assert len(test.details) > 2 * splits.info.sizes["test"]
    y = test.targets.take(tf.range(len(test.targets))).numpy()
    figures = task.evaluator.evaluate(9.0 * y, test)
    assert figures["exact_match"]["value"] > 0.95
    assert figures["f1"]["value"] > 0.98


def test_equal_questions_that_all_have_answers_are_found_as_duplicates():
    from sft_keras.check.inspect import quick_check

    source = Questions([("q", f"{n // 2} w", ["w"]) for n in range(12)])
    recipe = recipe_of(source)
    splits = splits_of(source)
    assert splits.info.class_names == ()
    prepared = build_task(recipe).preprocessor.preprocess(splits, lambda done, total: None)
    (finding,) = quick_check(prepared, splits.info)
    assert finding.kind == "same within a split" and len(finding.groups) == 6
