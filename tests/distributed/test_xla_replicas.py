"""Batches that are filled up to one size give what they give as they are, and XLA compiles them.

With one device of TensorFlow's XLA for CPUs in place of a TPU's cores; with several, uncompiled, in
tests/distributed/test_workers.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Arrays, Backbone, Data, Recipe, Stage, TaggedWords
from sft_keras.cache.extraction import Batch, run_pass
from sft_keras.core.errors import ClusterError, RecipeError
from sft_keras.core.reporter import CONSOLE
from sft_keras.data.bucketing import few_lengths_multiple, padded_length
from sft_keras.distributed import factory
from sft_keras.distributed.devices import ONE_DEVICE
from sft_keras.distributed.keras_setup import configured_keras
from sft_keras.distributed.sync_batch_norm import synchronized_statistics
from sft_keras.distributed.tpu import XlaReplicas
from sft_keras.evaluation.output_monitors import CollapseMonitor
from sft_keras.recipe.loader import load_recipe
from sft_keras.tasks import Clean, ImageClassification, MaskedLM, TokenClassification
from sft_keras.tasks.masked_lm.head import MaskedAccuracy, MaskedLoss
from sft_keras.tasks.masked_lm.masking import IGNORE_INDEX
from sft_keras.tasks.question_answering.targets import SpanCrossentropy, span_accuracy
from sft_keras.tasks.text_classification.multi_label_metrics import (
    LabelwiseCrossentropy,
    decision_accuracy,
)
from sft_keras.tasks.token_classification.metrics import TokenAccuracy
from sft_keras.training.step import Steps

COUNT, BATCH, CLASSES, PLACES = 20, 8, 3, 5  # the last batch has 4


class Compiling(XlaReplicas):
    """One device, with all that is traced compiled by XLA: what has no size of its own fails."""

    def __init__(self, batch_size=BATCH):
        super().__init__(tf.distribute.OneDeviceStrategy("/cpu:0"), batch_size)
        self.shapes = set()

    def trace(self, function, signature, jit_compile=False):
        def noted(*arguments):
            first = tf.nest.flatten(arguments)[0]
            self.shapes.add(tuple(first.shape))
            return function(*arguments)

        return tf.function(noted, autograph=False, jit_compile=True)


def y_and_weights(kind, random):
    hot = np.eye(CLASSES, dtype=np.float32)
    if kind == "classes":
        return hot[random.integers(0, CLASSES, COUNT)], random.uniform(0.5, 2, COUNT)
    if kind == "labels":
        y = (random.uniform(size=(COUNT, CLASSES)) > 0.5).astype(np.float32)
        return y, random.uniform(0.5, 2, y.shape)
    places = random.integers(0, CLASSES, (COUNT, PLACES))
    is_used = random.uniform(size=(COUNT, PLACES)) > 0.4
    if kind == "masked":
        return np.where(is_used, places, IGNORE_INDEX).astype(np.int32), None
    if kind == "spans":
        spans = np.eye(PLACES, dtype=np.float32)[random.integers(0, PLACES, (COUNT, 2))]
        return spans.transpose(0, 2, 1), None
    return hot[places] * is_used[..., None], is_used * random.uniform(0.5, 2, is_used.shape)


KINDS = {
    "classes": (
        lambda: keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        lambda: [keras.metrics.CategoricalAccuracy(name="accuracy")],
    ),
    "labels": (
        lambda: LabelwiseCrossentropy(from_logits=True, reduction="mean_with_sample_weight"),
        lambda: [decision_accuracy(0.3)],
    ),
    "tokens": (
        lambda: keras.losses.CategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        ),
        lambda: [TokenAccuracy()],
    ),
    "masked": (MaskedLoss, lambda: [MaskedAccuracy(name="accuracy")]),
    "spans": (
        SpanCrossentropy,
        lambda: [keras.metrics.MeanMetricWrapper(span_accuracy, name="accuracy")],
    ),
}


def network(kind):
    """A network with batch normalization that trains, and penalties."""
    keras.utils.set_random_seed(0)
    shape = (4,) if kind in ("classes", "labels") else (PLACES, 4)
    inputs = keras.Input(shape)
    norm = keras.layers.BatchNormalization(momentum=0.5)
    x = norm(keras.layers.Dense(6, kernel_regularizer=keras.regularizers.L2(1e-2))(inputs))
    outputs = keras.layers.Dense(2 if kind == "spans" else CLASSES)(x)
    return keras.Model(inputs, outputs), norm


def trained(kind, batches, devices):
    """Returns figures and weights after two epochs with a validation each."""
    loss, metrics = KINDS[kind]
    with devices.scope():
        model, norm = network(kind)
        model.compile(keras.optimizers.SGD(1e-2, momentum=0.9, global_clipnorm=0.5))
        model.optimizer.build(model.trainable_variables)
        watches = [CollapseMonitor(["a", "b", "c"])] if kind == "classes" else []
        figures, spec = metrics(), batches.element_spec
    devices.prepare_optimizer(model.optimizer)
    steps = Steps(
        model,
        loss(),
        figures,
        batch=spec,
        validation_batch=spec,
        output_monitors=watches,
        devices=devices,
    )
    found = []
    with devices.sync_batch_norm([norm]):
        for _ in range(2):
            steps.reset()
            for batch in batches:
                steps.train(batch)
            assert steps.examples == COUNT
            found += [*steps.results().values(), *steps.validate(batches).values()]
    counts = [each.numpy() for watch in watches for each in watch.variables]
    return found, [each.numpy() for each in model.variables], counts


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "tokens" else pytest.mark.slow) for kind in KINDS],
)
def test_rows_that_fill_a_batch_up_count_for_nothing(kind):
    random = np.random.default_rng(1)
    y, weights = y_and_weights(kind, random)
    shape = [COUNT, 4] if kind in ("classes", "labels") else [COUNT, PLACES, 4]
    x = random.normal(1.0, 2.0, shape)
    parts = (x.astype(np.float32), y)
    if weights is not None:
        parts += (weights.astype(np.float32),)
    batches = tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)
    devices = Compiling()
    figures, variables, counts = trained(kind, batches, devices)
    expected, plain, plain_counts = trained(kind, batches, ONE_DEVICE)
    np.testing.assert_allclose(figures, expected, rtol=1e-5)
    for found, each in zip(variables, plain, strict=True):
        np.testing.assert_allclose(found, each, rtol=1e-4, atol=1e-5)
    for found, each in zip(counts, plain_counts, strict=True):
        np.testing.assert_array_equal(found, each)
        assert each.sum() == COUNT
    assert devices.shapes == {(BATCH, *x.shape[1:])}


def test_statistics_of_a_batch_keep_their_digits_far_from_0():
    # By the mean of the squares alone, 1e4 away from 0, nothing would be left of a variance of 1.
    inputs = np.random.default_rng(0).normal(1e4, 1.0, (64, 3)).astype(np.float32)
    layer = keras.layers.BatchNormalization(epsilon=1e-12)
    layer.build(inputs.shape)
    layer.moving_mean.assign([1e4] * 3)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with synchronized_statistics([layer]):
        outputs = strategy.run(lambda: layer(inputs, training=True)).numpy()
    np.testing.assert_allclose(outputs.std(axis=0), 1.0, rtol=1e-3)
    assert "_moments" not in vars(layer)


@pytest.mark.parametrize("longest", [1, 16, 50, 64, 128, 500, 512])
def test_texts_have_four_lengths_at_most(longest):
    multiple = few_lengths_multiple(longest)
    lengths = padded_length(np.arange(1, longest + 1), multiple)
    assert len(np.unique(lengths)) <= 4
    assert multiple % 16 == 0 and (lengths >= np.arange(1, longest + 1)).all()


def test_a_pass_computes_at_once_what_is_of_one_shape():
    class Together(XlaReplicas):
        def __init__(self):
            super().__init__(tf.distribute.OneDeviceStrategy("/cpu:0"), BATCH)
            self.num_replicas, self.handed = 2, []

        def run_per_replica(self, step, parts):
            self.handed.append([part.shape.as_list() for part in parts])
            return [step(part) for part in parts]

    class Rows:
        takes_all, found = True, []

        def append(self, names, tensors, computing):
            self.found.append(np.concatenate([each.numpy() for each in tensors]))

    inputs = keras.Input((None,))
    prefix = keras.Model(inputs, keras.layers.Lambda(lambda x: keras.ops.sum(x, 1))(inputs))
    sizes = [(4, 16), (4, 16), (3, 16), (4, 32), (1, 32)]
    batches = [Batch(np.zeros((n, 1), np.uint8), tf.ones([n, m]), [Rows()]) for n, m in sizes]
    devices, done = Together(), []
    run_pass(
        prefix,
        batches,
        batch_size=4,
        stored=[[tf.TensorSpec([], tf.float32)]],
        in_bfloat16=(),
        progress=done.append,
        devices=devices,
    )
    assert done[-1] == 16
    assert all(first == second for first, second in devices.handed)
    expected = [np.full(n, m, np.float32) for n, m in sizes]
    for found, each in zip(Rows.found, expected, strict=True):
        np.testing.assert_array_equal(found, each)


@pytest.mark.parametrize("strategy", ["tpu", "auto"])
def test_a_tpu_that_is_not_there_is_said(strategy, monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    with pytest.raises(ClusterError, match=r"needs a TPU in this machine .* TPUs not found"):
        factory.local_devices(strategy, 0, BATCH)
    monkeypatch.setenv("TPU_NAME", "my-tpu")
    with pytest.raises(ClusterError, match=r"TPU_NAME='my-tpu', which names another"):
        factory.local_devices(strategy, 0, BATCH)
    monkeypatch.delenv("TPU_NAME")
    assert factory.local_devices("auto", 0, BATCH) is ONE_DEVICE


@pytest.mark.parametrize("devices", [Compiling(), ONE_DEVICE])
def test_what_xla_refuses_to_compile_is_not_asked_for(devices, monkeypatch):
    # Of such programs it says: "GPU MaxPool gradient ops do not yet have a deterministic XLA ..."
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    recipe = load_recipe("quickstart", []).recipe
    assert recipe.deterministic
    with configured_keras(recipe, devices):
        assert bool(asked) == (devices is ONE_DEVICE)


@pytest.mark.parametrize("strategy", ["tpu", "auto"])
def test_what_a_tpu_cannot_do_is_refused_and_not_done_by_its_host(strategy, monkeypatch):
    monkeypatch.setattr(factory, "local_devices", lambda *_: Compiling())
    recipe = Recipe(
        task=ImageClassification(),
        data=Data(source="synthetic:3", batch_size=BATCH),
        backbone=Backbone(preset="keras:mobilenet"),
        stages=(Stage(name="head", epochs=1, learning_rate=1e-2, accumulate=2),),
    )
    loaded = load_recipe(recipe, [])
    with pytest.raises(RecipeError, match=r"`stages\.head\.accumulate` cannot be used"):
        factory.create_devices(strategy, None, loaded, resume=False, timeout=1.0, reporter=CONSOLE)


# Whole runs


def images(preset, folder):
    random = np.random.default_rng(0)
    labels = np.arange(53) % 3
    pixels = random.integers(0, 120, (53, 32, 32, 3))
    pixels[np.arange(53), :, :, labels] += 120
    scale = {"scale": 1 / 128, "offset": -1.0}
    top = {"unfreeze": 1, "train_batch_norm": True, "optimizer": "sgd"}
    return Recipe(
        task=ImageClassification(dropout=0.0),
        data=Data(source=Arrays(train=(pixels.astype(np.uint8), labels)), batch_size=BATCH),
        backbone=Backbone(preset=f"hub:{preset}", image_size=(32, 32), arguments=scale),
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2),
            Stage(name="top", epochs=2, learning_rate=1e-3, **top),
        ),
    )


def sentences(preset, folder):
    random = np.random.default_rng(0)
    words = [[chr(97 + each) for each in random.integers(0, 7, n % 40 + 2)] for n in range(61)]
    tags = [["B-NAME" if word == "c" else "O" for word in each] for each in words]
    return Recipe(
        task=TokenClassification(sequence_length=64, dropout=0.0),
        data=Data(source=TaggedWords((words, tags)), batch_size=BATCH),
        backbone=Backbone(preset="tiny:bert", arguments={"dropout": 0.0}),
        stages=(
            Stage(name="head", epochs=2, learning_rate=1e-2, optimizer="sgd"),
            Stage(name="top", epochs=2, learning_rate=1e-2, unfreeze=1, optimizer="sgd"),
        ),
    )


def lines(preset, folder):
    file = folder / "lines.txt"
    draw = np.random.default_rng(0)
    made = [" ".join(draw.choice(list("abcdefgh"), n % 30 + 4)) for n in range(61)]
    file.write_text("\n".join(made) + "\n")
    return Recipe(
        task=MaskedLM(sequence_length=48, share=0.2, clean=Clean(duplicates=False)),
        data=Data(source=f"texts:{file}", batch_size=BATCH),
        backbone=Backbone(preset="tiny:bert", arguments={"dropout": 0.0}),
        stages=(Stage(name="all", epochs=2, learning_rate=1e-2, unfreeze="all", optimizer="sgd"),),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        images,
        pytest.param(sentences, marks=pytest.mark.nightly),
        pytest.param(lines, marks=pytest.mark.nightly),
    ],
)
def test_a_run_is_that_of_one_device(made, tiny_preset, tmp_path, monkeypatch):
    recipe = made(tiny_preset, tmp_path)
    expected = sft_keras.finetune(recipe, run_dir=tmp_path / "plain")
    devices = []

    def found(strategy, virtual_devices, batch_size):
        assert strategy == "tpu"
        devices.append(Compiling(batch_size))
        return devices[0]

    monkeypatch.setattr(factory, "local_devices", found)
    result = sft_keras.finetune(recipe, run_dir=tmp_path / "compiled", strategy="tpu")
    assert result.history.keys() == expected.history.keys()
    for stage, figures in expected.history.items():
        for name, values in figures.items():
            given = result.history[stage][name]
            np.testing.assert_allclose(given, values, rtol=1e-4, atol=1e-6, err_msg=name)
    for found_, each in zip(result.model.variables, expected.model.variables, strict=True):
        np.testing.assert_allclose(found_.numpy(), each.numpy(), rtol=1e-4, atol=1e-5)
    assert result.report["export"]["largest_difference"] < 1e-5
    (compiled,) = devices
    assert {shape[0] for shape in compiled.shapes} <= {BATCH, recipe.store.batch_size}
    assert len({shape[1:] for shape in compiled.shapes if len(shape) == 2}) <= 4
