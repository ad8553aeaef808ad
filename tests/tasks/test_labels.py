"""Labels in every form against outputs of every kind: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.label_values import IGNORED
from graphopt.tasks.labels import Fitted, fit_labels
from graphopt.tasks.task import Task

# ruff: noqa: E501
N = 6
RNG = np.random.default_rng(0)
CLASSES = np.array([0, 1, 2, 2, 1, 0])
YES = np.array([0, 1, 1, 0, 1, 0])
TAGS = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
MAPS = RNG.integers(0, 3, (N, 4, 5))
TOKENS = RNG.integers(0, 3, (N, 4))


def scores(*shape: int) -> Array:
    return RNG.standard_normal((N, *shape)).astype(np.float32)


def shares(*shape: int) -> Array:
    return RNG.uniform(0.1, 0.9, (N, *shape)).astype(np.float32)


HEADS: dict[str, tuple[Task, Array]] = {
    "logits": (Task("y", "classes", 1, "logits"), scores(3)),
    "shares": (Task("y", "classes", 1, "probabilities"), shares(3)),
    "unclear": (Task("y", "regression", 1), scores(3)),
    "unclear shares": (Task("y", "regression", 1), shares(3)),
    "unclear pair": (Task("y", "regression", 1), scores(2)),
    "unclear column": (Task("y", "regression", 1), scores(1)),
    "unclear number": (Task("y", "regression"), scores()),
    "a sigmoid": (Task("y", "binary", None, "probabilities"), shares(1)),
    "sigmoids": (Task("y", "multi-label", 1, "probabilities"), shares(3)),
    "pixels": (Task("y", "classes", 1, "logits"), scores(3, 4, 5)),
    "unclear pixels": (Task("y", "regression", 1), scores(3, 4, 5)),
    "pixels, channels last": (Task("y", "classes", 3, "logits"), scores(4, 5, 3)),
    "pixels, channels last, by name": (Task("y", "classes", 1, "logits"), scores(4, 5, 3)),
    "square pixels": (Task("y", "regression", 1), scores(4, 4, 4)),
    "one channel": (Task("y", "binary", None, "probabilities"), shares(1, 4, 5)),
    "tokens": (Task("y", "classes", 2, "logits"), scores(4, 3)),
    "unclear tokens": (Task("y", "regression", 2), scores(4, 3)),
    "tokens, classes first": (Task("y", "regression", 2), scores(3, 4)),
    "pooled": (Task("y", "classes", 1, "logits"), scores(3, 1, 1)),
    "numbers, given": (Task("y", "regression", 1, given=True), scores(3)),
    "numbers in one column, given": (Task("y", "regression", 1, given=True), scores(1)),
    "tags, given": (Task("y", "multi-label", 1, "logits", given=True), scores(3)),
    "an index": (Task("y", "indices"), CLASSES.copy()),
    "a map of indices": (Task("y", "indices"), MAPS.copy()),
    "a mask": (Task("y", "mask"), MAPS > 0),
    "texts": (Task("y", "texts"), np.array(["ant", "bee", "cow", "cow", "bee", "ant"], object)),
}

FORMS: dict[str, Array] = {
    "class numbers": CLASSES,
    "as uint8": CLASSES.astype(np.uint8),
    "as float": CLASSES.astype(np.float64),
    "in a column": CLASSES[:, None],
    "one-hot": np.eye(3, dtype=np.float32)[CLASSES],
    "one-hot ints": np.eye(3, dtype=np.int64)[CLASSES],
    "one-hot bools": np.eye(3, dtype=bool)[CLASSES],
    "smoothed": (np.eye(3) * 0.7 + 0.1)[CLASSES],
    "texts": np.array(["ant", "bee", "cow", "cow", "bee", "ant"]),
    "bytes": np.array([b"ant", b"bee", b"cow", b"cow", b"bee", b"ant"]),
    "spelt numbers": np.array(["0", "1", "2", "2", "1", "0"]),
    "with -100": np.where(CLASSES == 2, -100, CLASSES),
    "with 255": np.where(CLASSES == 2, 255, CLASSES).astype(np.uint8),
    "yes or no": YES,
    "yes or no bools": YES.astype(bool),
    "yes or no floats": YES.astype(np.float32),
    "yes or no signs": 2 * YES - 1,
    "yes or no bytes": (255 * YES).astype(np.uint8),
    "yes or no texts": np.array(["dog", "cat", "cat", "dog", "cat", "dog"]),
    "yes or no rows": np.eye(2)[YES],
    "tags": TAGS.astype(np.float32),
    "tags ints": TAGS,
    "tags bools": TAGS.astype(bool),
    "maps": MAPS,
    "maps uint8": MAPS.astype(np.uint8),
    "maps with a channel": MAPS[:, None],
    "maps with 255": np.where(MAPS == 2, 255, MAPS).astype(np.uint8),
    "one-hot maps": np.eye(3)[MAPS].transpose(0, 3, 1, 2),
    "one-hot maps, channels last": np.eye(3)[MAPS],
    "square maps": RNG.integers(0, 4, (N, 4, 4)),
    "masks": (MAPS > 0).astype(np.uint8) * 255,
    "token classes": TOKENS,
    "token classes with -100": np.where(TOKENS == 2, -100, TOKENS),
    "rows of numbers": RNG.standard_normal((N, 3)),
    "numbers": RNG.standard_normal(N),
    "ages": np.array([30, 41, 77, 18, 25, 60]),
}

READ: dict[str, dict[str, str]] = {
    "classes of shape [6]": {
        "logits": "class numbers, as uint8, as float, in a column, one-hot, one-hot ints, one-hot bools, smoothed, texts, bytes, spelt numbers, with -100, with 255, yes or no, yes or no bools, yes or no floats",
        "shares": "class numbers, one-hot, smoothed, texts",
        "unclear": "class numbers, as uint8, as float, in a column, one-hot, one-hot ints, one-hot bools, texts, spelt numbers, with -100, with 255, yes or no",
        "unclear pair": "yes or no, yes or no bools, yes or no floats, yes or no signs, yes or no bytes, yes or no texts, yes or no rows",
        "sigmoids": "class numbers, as float, texts, with -100",
    },
    "classes of shape [6, 1, 1]": {"pooled": "class numbers, one-hot, texts, with 255"},
    "classes of shape [6, 4, 5]": {
        "pixels": "maps, maps uint8, maps with 255, one-hot maps, one-hot maps, channels last",
        "unclear pixels": "maps, maps uint8, maps with 255, one-hot maps",
        "pixels, channels last": "maps, maps with 255, one-hot maps, channels last",
        "pixels, channels last, by name": "maps",
    },
    "classes of shape [6, 4, 4]": {"square pixels": "square maps"},
    "classes of shape [6, 4]": {
        "tokens": "token classes, token classes with -100",
        "unclear tokens": "token classes, token classes with -100",
        "tokens, classes first": "token classes",
    },
    "binary of shape [6, 1]": {
        "unclear column": "yes or no, yes or no rows, yes or no bools, yes or no floats, yes or no signs, yes or no texts, yes or no bytes",
        "a sigmoid": "yes or no, yes or no bools, yes or no floats, yes or no signs, yes or no texts, yes or no bytes, yes or no rows, with 255, with -100",
    },
    "binary of shape [6]": {"unclear number": "yes or no, yes or no bools"},
    "binary of shape [6, 1, 4, 5]": {"one channel": "masks"},
    "multi-label of shape [6, 3]": {
        "unclear": "tags, tags ints, tags bools",
        "unclear shares": "tags",
        "sigmoids": "tags, tags ints, tags bools, one-hot",
        "tags, given": "tags, tags ints, one-hot",
    },
    "regression of shape [6, 3]": {
        "unclear": "rows of numbers, smoothed",
        "numbers, given": "rows of numbers, one-hot, tags",
    },
    "regression of shape [6, 1]": {
        "unclear column": "numbers, ages",
        "numbers in one column, given": "numbers, ages, yes or no",
    },
    "indices of shape [6]": {"an index": "class numbers, as float, with -100, with 255, ages"},
    "indices of shape [6, 4, 5]": {"a map of indices": "maps, maps with 255"},
    "mask of shape [6, 4, 5]": {"a mask": "masks"},
    "texts of shape [6]": {"texts": "texts, bytes"},
    "refused": {
        "logits": "tags, maps, rows of numbers, ages, yes or no texts, yes or no rows",
        "unclear": "ages, numbers, yes or no texts, maps",
        "unclear pair": "class numbers, texts",
        "unclear column": "texts, tags",
        "a sigmoid": "class numbers, texts, numbers, rows of numbers",
        "sigmoids": "rows of numbers, numbers, yes or no texts",
        "pixels": "class numbers, square maps",
        "tokens": "class numbers, maps",
        "tags, given": "class numbers, rows of numbers",
        "an index": "texts, numbers, maps",
        "a mask": "maps",
        "texts": "class numbers, numbers",
    },
}  # fmt: skip


def names(listed: str) -> list[str]:
    found, text = list[str](), listed
    while text:
        name = max((each for each in FORMS if (text + ", ").startswith(each + ", ")), key=len)
        found, text = [*found, name], text[len(name) + 2 :]
    return found


CASES = [
    (head, form, words)
    for words, heads in READ.items()
    for head, listed in heads.items()
    for form in names(listed)
]


def fitted(head: str, form: str) -> Fitted:
    task, answer = HEADS[head]
    return fit_labels(FORMS[form], {"y": task}, {"y": answer})


@pytest.mark.parametrize(("head", "form", "words"), CASES)
def test_labels_are_read_as_those_of_the_output(head: str, form: str, words: str) -> None:
    if words == "refused":
        with pytest.raises(DataError, match=r"^labels of shape \[6.* fit no output: output 'y' "):
            fitted(head, form)
        return
    fit = fitted(head, form)
    assert f"{fit.task.kind} of shape {list(fit.labels.shape)}" == words
    assert fit.task.scores == (fit.task.kind in ("classes", "binary", "multi-label"))
    wanted: dict[str, Array] = {
        "[6]": CLASSES,
        "[6, 1, 1]": CLASSES[:, None, None],
        "[6, 4, 5]": MAPS,
        "[6, 4]": TOKENS,
    }
    shape = str(list(fit.labels.shape))
    counted = np.ones(fit.labels.shape, bool) if fit.ignored is None else ~fit.ignored
    assert (fit.labels[~counted] == IGNORED).all()
    if fit.task.kind == "classes" and not form.startswith(("yes", "square")):
        assert fit.axis is not None and fit.shape[fit.axis - 1] == 3
        assert (fit.labels == wanted[shape])[counted].all()
        assert ("255" in form or "-100" in form) == (fit.ignored is not None)
    if form.startswith("yes") and fit.task.kind != "regression":
        turned = 1 - YES if form.endswith("texts") else YES  # cat comes before dog
        assert (fit.labels.reshape(N) == turned).all()
    if form.startswith("tags"):
        assert (fit.labels == TAGS).all()


def test_a_form_is_taken_from_the_answers_where_it_is_open() -> None:
    assert fitted("unclear", "class numbers").task.form == "logits"
    assert fitted("unclear shares", "class numbers").task.form == "probabilities"
    assert fitted("sigmoids", "class numbers").task.form == "probabilities"
    assert fitted("unclear column", "yes or no").task.threshold == 0
    assert fitted("a sigmoid", "yes or no").task.threshold == 0.5


def test_sums_of_a_layer_are_logits_whatever_they_are_by_chance() -> None:
    column = shares(1)
    for sums, form in ((False, "probabilities"), (True, "logits")):
        task = Task("y", "regression", 1, sums=sums)
        assert fit_labels(YES, {"y": task}, {"y": column}).task.form == form


def test_what_settled_it_is_said() -> None:
    task = fitted("unclear pixels", "maps").task
    assert (str(task), task.why) == (
        "class scores (logits) along axis 1",
        "the labels: class numbers",
    )
    assert fitted("logits", "class numbers").task is HEADS["logits"][0]
    assert fitted("tokens, classes first", "token classes").task.axis == 1
    assert fitted("logits", "texts").classes == ("ant", "bee", "cow")


A, B = Task("a", "regression", 1), Task("b", "regression", 1)


@pytest.mark.parametrize(
    ("tasks", "answers", "labels", "output"),
    [
        ([Task("a", "boxes", 1), B], [scores(4), scores(2)], YES, "b"),
        ([A, B], [scores(4), scores(2)], YES, "b"),
        ([A, B], [scores(3), scores(3)], CLASSES, "a"),
        ([A, Task("b", "classes", 1, "logits")], [scores(3), scores(5)], CLASSES, "b"),
        ([Task("a", "indices"), B], [CLASSES, scores(3)], CLASSES, "a"),
        ([Task("a", "texts"), B], [FORMS["texts"].astype(object), scores(3)], FORMS["texts"], "a"),
        ([Task("a", "texts"), B], [FORMS["texts"].astype(object), scores(3)], CLASSES, "b"),
        ([A, B], [scores(4, 8), scores(3)], RNG.standard_normal((N, 3)), "b"),
        ([Task("a", "container"), Task("b", "indices")], [[{0: 1.0}], CLASSES], CLASSES, "b"),
        ([A, Task("b", "regression", 1, given=True)], [scores(3), scores(3)], TAGS, "b"),
        ([A, B], [scores(3), scores(1)], RNG.standard_normal(N // 2), "a"),
        ([A, Task("b", "embedding", 1)], [scores(4, 8), scores(8)], RNG.standard_normal(3), "b"),
    ],
)
def test_labels_find_their_output(
    tasks: list[Task], answers: list[Any], labels: Array, output: str
) -> None:
    named = {task.output: answer for task, answer in zip(tasks, answers, strict=True)}
    fit = fit_labels(labels, {task.output: task for task in tasks}, named, samples=N)
    assert fit.output == output
    assert fit.pairs == (len(labels) < N)


@pytest.mark.parametrize(
    ("tasks", "answers", "labels", "message"),
    [
        (
            [A, B],
            [scores(5), scores(7)],
            CLASSES,
            r"fit several outputs: 'a' \(class scores \(logits\) along axis 1\), 'b' .*; say what these are",
        ),
        (
            [Task("a", "boxes", 1), Task("b", "state")],
            [scores(4), scores(8)],
            YES,
            r"labels of shape \[6\], int64 from 0 to 1 fit no output: output 'a' takes numbers of shape \[N, 4\]; output 'b' is a state",
        ),
        (
            [A],
            [scores(3, 4, 5)],
            CLASSES,
            r"output 'a' takes class numbers 0 to 2 of shape \[N, 4, 5\] or one-hot rows \[N, 3, 4, 5\] or numbers of",
        ),
        (
            [A],
            [scores(3)],
            FORMS["yes or no texts"],
            r"labels of shape \[6\], 2 texts: 'cat', 'dog' fit no",
        ),
        (
            [A],
            [scores(1)],
            TAGS,
            r"output 'a' takes 0 and 1 of shape \[N, 1\] or numbers of shape \[N, 1\]$",
        ),
        ([A], [scores(3)], CLASSES[:4], r"^4 labels for 6 samples; give one for each$"),
        ([A], [scores(1)], CLASSES[:3], r"one for each pair of samples, must be one number each"),
        (
            [Task("a", "regression", 1, free_rows=True)],
            [scores(3)],
            CLASSES,
            r"output 'a' is numbers along axis 1, as many as the data has",
        ),
        (
            [Task("a", "container")],
            [[1]],
            CLASSES,
            r"fit no output: none has one shape for all",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    tasks: list[Task], answers: list[Any], labels: Array, message: str
) -> None:
    named = {task.output: answer for task, answer in zip(tasks, answers, strict=True)}
    with pytest.raises(DataError, match=message):
        fit_labels(labels, {task.output: task for task in tasks}, named, samples=N)


NAMES = np.array(["ant", "bee", "cow"])[CLASSES]
MARKED = [0, -100, 2, 2, 1, -100]


@pytest.mark.parametrize("mark", ["-100", "255", "", "ignore", "Void", "unlabelled"])
def test_texts_that_say_nothing_are_left_out(mark: str) -> None:
    labels = np.where(np.array(MARKED) < 0, mark, NAMES)
    fit = fit_labels(labels, {"y": HEADS["logits"][0]}, {"y": scores(3)})
    assert (fit.labels.tolist(), fit.classes) == (MARKED, ("ant", "bee", "cow"))
    assert fit.notes == [
        "labels: 3 classes in sorted order: ant, bee, cow",
        "labels: 33.3% say that they do not count, and are left out",
    ]


def test_a_text_is_a_class_where_there_are_as_many_classes() -> None:
    labels = np.where(np.array(MARKED) < 0, "void", NAMES)
    fit = fit_labels(labels, {"y": HEADS["logits"][0]}, {"y": scores(4)})
    assert (fit.classes, fit.ignored) == (("ant", "bee", "cow", "void"), None)
    with pytest.raises(DataError, match="4 texts do not say which of the numbers 0 to 4 each of"):
        fit_labels(labels, {"y": HEADS["logits"][0]}, {"y": scores(5)})
    padded = np.where(np.array(MARKED) < 0, "-100", NAMES)
    with pytest.raises(DataError, match="3 texts do not say which of the numbers 0 to 3 each of"):
        fit_labels(padded, {"y": HEADS["logits"][0]}, {"y": scores(4)})


def test_texts_of_an_output_of_texts_are_left_out_too() -> None:
    labels = np.where(np.array(MARKED) < 0, "-100", NAMES)
    fit = fit_labels(labels, {"y": Task("y", "texts")}, {"y": NAMES.astype(object)})
    assert fit.ignored is not None
    assert fit.ignored.tolist() == [mark < 0 for mark in MARKED]


@pytest.mark.parametrize(
    ("head", "labels", "found", "note"),
    [
        ("logits", CLASSES + 1, CLASSES, "1 to 3 are taken as classes 0 to 2"),
        ("logits", (CLASSES + 1).astype(str), CLASSES, "1 to 3 are taken as classes 0 to 2"),
        ("logits", [1, 2, 3, 3, 255, -100], [0, 1, 2, 2, -100, -100], "1 to 3 are taken as class"),
        ("unclear pixels", MAPS + 1, MAPS, "1 to 3 are taken as classes 0 to 2"),
        ("unclear pair", YES + 1, YES, "1 to 2 are taken as classes 0 to 1"),
        ("a sigmoid", YES + 1.0, YES[:, None], "1 to 2 are taken as no and yes"),
    ],
)
def test_numbers_that_are_sure_to_count_from_one_are_taken_so(
    head: str, labels: Any, found: Any, note: str
) -> None:
    task, answer = HEADS[head]
    fit = fit_labels(np.asarray(labels), {"y": task}, {"y": answer})
    assert np.array_equal(fit.labels, found)
    assert fit.notes[0].startswith(f"labels: they count from 1; {note}")


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        (
            [1, 3, 3, 1, 1, 3],
            r"numbers of shape \[N, 3\]; it seems that they count from 1; subtract",
        ),
        ([0, 1, 2, 3, 3, 1], "0 to 3 are one number more than there are classes; where 0 says"),
        ([1, 2, 3, 4, 3, 1], r"numbers of shape \[N, 3\]$"),
    ],
)
def test_numbers_that_may_count_from_one_are_refused_with_a_hint(
    labels: list[int], advice: str
) -> None:
    with pytest.raises(DataError, match=advice):
        fit_labels(np.array(labels), {"a": A}, {"a": scores(3)})


def test_rows_and_numbers_of_one_column_do_not_count_from_one() -> None:
    column = fit_labels(YES + 1, {"y": HEADS["unclear column"][0]}, {"y": scores(1)})
    assert (column.task.kind, column.labels[:, 0].tolist()) == ("regression", (YES + 1).tolist())
    with pytest.raises(DataError, match="takes 0 and 1"):
        fit_labels(TAGS + 1, {"y": HEADS["sigmoids"][0]}, {"y": shares(3)})


@pytest.mark.parametrize("separator", [",", ", ", "|", ";", " "])
def test_texts_that_list_labels_are_rows_of_yes_and_no(separator: str) -> None:
    names = np.array(["ant", "bee", "cow"])
    texts = np.array([separator.join(names[row > 0]) for row in TAGS])
    for head in ("sigmoids", "tags, given", *([] if separator == " " else ["unclear"])):
        task, answer = HEADS[head]
        fit = fit_labels(texts, {"y": task}, {"y": answer})
        assert (fit.task.kind, fit.classes) == ("multi-label", ("ant", "bee", "cow"))
        assert (fit.labels == TAGS).all()
        assert fit.notes == ["labels: 3 classes in sorted order: ant, bee, cow"]
    with pytest.raises(DataError, match="fit no output"):
        fit_labels(texts, {"a": A}, {"a": scores(4)})
    named = np.array(["red fox", "red dog"])[YES]
    with pytest.raises(DataError, match="2 texts do not say which of the numbers 0 to 2 each of"):
        fit_labels(named, {"a": A}, {"a": scores(3)})


BLOCKS = np.kron(MAPS, np.ones((2, 2), int))


@pytest.mark.parametrize(
    ("head", "labels", "found"),
    [
        ("pixels", BLOCKS, MAPS),
        ("unclear pixels", BLOCKS + 1, MAPS),
        ("pixels, channels last", BLOCKS, MAPS),
        ("one channel", 255 * (BLOCKS > 0), (MAPS > 0)[:, None]),
        ("a mask", BLOCKS > 0, MAPS > 0),
        ("a map of indices", BLOCKS, MAPS),
        ("pixels", MAPS[:, :, 1:4], None),
        ("pixels", MAPS[:, 1::2], None),
        ("pixels", np.where(np.arange(10) > 7, -100, BLOCKS), None),
        ("pixels", BLOCKS + 0.5, None),
        ("numbers, given", BLOCKS, None),
    ],
)
def test_maps_of_another_size_are_read_at_the_places_of_the_output(
    head: str, labels: Any, found: Any
) -> None:
    task, answer = HEADS[head]
    if found is None:
        with pytest.raises(DataError, match="fit no output: output 'y' takes"):
            fit_labels(np.asarray(labels), {"y": task}, {"y": answer})
        return
    fit = fit_labels(np.asarray(labels), {"y": task}, {"y": answer})
    assert np.array_equal(fit.labels, found)
    told = "labels: maps of 8 x 10 are read at the 4 x 5 places of 'y', nearest neighbour"
    assert told in fit.notes


def test_outputs_without_a_batch_axis_and_with_several_rows_a_sample() -> None:
    alone = fit_labels(
        CLASSES, {"y": Task("y", "regression")}, {"y": RNG.standard_normal(3)}, rows=1
    )
    assert (alone.shape, alone.task.kind) == ((3,), "classes")
    rows = fit_labels(TOKENS, {"y": A}, {"y": scores(4, 3).reshape(N * 4, 3)}, rows=N)
    assert (rows.shape, rows.axis, rows.labels.shape) == ((4, 3), 2, (N, 4))


def test_labels_to_be_left_out_are_those_of_the_caller() -> None:
    marked = np.where(CLASSES == 2, -1, CLASSES)
    with pytest.raises(DataError, match=r"int64 from -1 to 1 fit no output"):
        fit_labels(marked, {"y": HEADS["logits"][0]}, {"y": scores(3)})
    fit = fit_labels(marked, {"y": HEADS["logits"][0]}, {"y": scores(3)}, left_out=(-1,))
    assert fit.labels.tolist() == [0, 1, -100, -100, 1, 0]


@pytest.mark.parametrize("labels", [CLASSES.astype(complex), CLASSES.astype("M8[D]"), CLASSES[:0]])
def test_what_is_no_label(labels: Array) -> None:
    with pytest.raises(DataError, match="are neither numbers nor texts"):
        fit_labels(labels, {"y": HEADS["logits"][0]}, {"y": scores(3)})


def test_immense_numbers_stay_numbers() -> None:
    labels = np.array([2**64 - 1, 1, 2, 3, 4, 5], np.uint64)
    fit = fit_labels(labels, {"y": HEADS["unclear column"][0]}, {"y": scores(1)})
    assert fit.task.kind == "regression"
    assert fit.labels[0, 0] == np.float32(2**64)


def test_255_is_a_class_where_there_are_that_many() -> None:
    labels = np.array([255, 3, 0, 9, 254, 255])
    fit = fit_labels(labels, {"y": HEADS["logits"][0]}, {"y": scores(1000)})
    assert fit.labels.tolist() == labels.tolist() and fit.ignored is None
    index = fit_labels(labels, {"y": Task("y", "indices")}, {"y": labels})
    assert index.ignored is None
