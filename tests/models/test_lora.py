"""Low-rank adapters: what trains, what they leave behind, and what a recipe may say of them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import sft_keras
from sft_keras import Backbone, Data, LoRA, Recipe, Stage, Texts
from sft_keras.backbones.text import build_text_backbone
from sft_keras.core.errors import LossError, RecipeError
from sft_keras.models.lora import adapter_variables, attach_adapters, layers_to_adapt
from sft_keras.recipe.loader import to_lines, to_plain
from sft_keras.recipe.overrides import apply_overrides
from sft_keras.runs.folder import RunFolder
from sft_keras.sweeps.shared import TrialContext
from sft_keras.tasks import TextClassification
from sft_keras.tasks.base import build_task
from sft_keras.training.experiment import Experiment
from sft_keras.training.freezing import may_move, set_trainable
from sft_keras.training.setup import build_staged, stage_adapters
from sft_keras.training.trainer import train_stages

# The steps of `eager` are; the batches are made in a graph all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run")

RANK = 2
TOP = "transformer_layer_1/self_attention_layer/"


def made_texts(count):
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("abc "), 12)) + "qz"[n % 2] for n in range(count)]
    return Texts((texts, ["left", "right"] * (count // 2)))


def stage(name="top", **fields):
    given = {"epochs": 1, "learning_rate": 3e-2, "unfreeze": 1, "adapter": LoRA(rank=RANK)}
    return Stage(name=name, **(given | fields))


def recipe(*stages, **fields):
    return Recipe(
        task=TextClassification(sequence_length=16, dropout=0.0),
        data=Data(source=made_texts(40), batch_size=8),
        backbone=Backbone(preset="tiny:bert"),
        stages=stages,
        **fields,
    )


@pytest.fixture(scope="module")
def data():
    plan = recipe(stage())
    splits = build_task(plan).open_data(0)
    return build_task(plan, splits.info).preprocessor.preprocess(
        splits, lambda done, total: None
    ), splits.info


def built(plan, info):
    keras.utils.set_random_seed(plan.seed)
    return build_staged(plan, build_task(plan).build_backbone(), info)


def trained(plan, data, folder):
    prepared, info = data
    staged = built(plan, info)
    folder.mkdir()
    run = RunFolder(folder, is_quiet=True)
    results = train_stages(Experiment(plan, staged, prepared, info, run))
    return staged, results


def values(staged):
    return {v.path: v.numpy() for v in staged.model.variables if "seed" not in v.path}


def changed(before, after):
    assert before.keys() == after.keys()
    return {path for path in before if not np.array_equal(before[path], after[path])}


def tokens(plan):
    return build_task(plan).encoder.encode(tf.constant(["ab cq", "z", "cabba z"]))


def moved(staged):
    """Fills the second matrices, as training does: with them at 0 an adapter says nothing."""
    draw = np.random.default_rng(1)
    for matrix in adapter_variables(staged.backbone.model.layers):
        matrix.assign(draw.normal(0, 0.3, matrix.shape))


@pytest.fixture
def eager():
    """Steps without a graph, whose making would take most of a small stage's time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


# What trains


@pytest.mark.parametrize("unfreeze", [1, pytest.param(2, marks=pytest.mark.slow), "all"])
def test_the_matrices_and_the_head_train_and_nothing_else(data, unfreeze):
    plan = recipe(stage(unfreeze=unfreeze))
    staged = built(plan, data[1])
    with stage_adapters(staged, plan, plan.stages[0]):
        for _ in range(2):
            set_trainable(staged, plan.stages[0])
            model = staged.stage_model(unfreeze)
            train = {variable.path for variable in model.trainable_variables}
            assert train == {v.path for v in may_move(staged, plan.stages[0]).values()}
        names = {path.rsplit("/", 1)[1] for path in train - {"logits/kernel", "logits/bias"}}
        assert names == {"lora_kernel_a", "lora_kernel_b"}
        # A: [hidden 16, heads 2, rank]; B: [rank, 8 a head]; beside query and value.
        layers = {1: 1, 2: 2, "all": 2}[unfreeze]
        count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert count == layers * 2 * (16 * 2 * RANK + RANK * 8) + 16 * 2 + 2


def test_a_stage_leaves_the_kernels_as_they_were_until_it_is_over(data, tmp_path, monkeypatch):
    from sft_keras.training import trainer as training

    within = {}
    run_stage = training.run_stage

    def watched(staged, *arguments, **named):
        within["before"] = values(staged)
        result = run_stage(staged, *arguments, **named)
        within["after"] = values(staged)
        inputs = tokens(plan)
        within["answers"] = staged.model(inputs).numpy()
        return result

    monkeypatch.setattr(training, "run_stage", watched)
    plan = recipe(stage(epochs=2))
    staged, (result,) = trained(plan, data, tmp_path / "run")
    matrices = {TOP + f"{n}/lora_kernel_{m}" for n in ("query", "value") for m in "ab"}
    moved_within = changed(within["before"], within["after"])
    assert moved_within == matrices | {"logits/kernel", "logits/bias"}
    # Over: the products are in the kernels, and the model computes what it did.
    after = values(staged)
    kept = {path: within["after"][path] for path in after}
    assert changed(kept, after) == {TOP + "query/kernel", TOP + "value/kernel"}
    np.testing.assert_allclose(staged.model(tokens(plan)), within["answers"], atol=1e-6)
    audit = result["audit"]
    assert audit["frozen_identical"] and audit["moved_variables"] == 6
    assert audit["frozen_variables"] == len(after) - 2
    assert set(audit["trained_layers"]) == {TOP + "query", TOP + "value", "logits"}
    assert result["adapter"] == {"rank": RANK, "layers": 2}


# What is left behind


@pytest.mark.parametrize(
    "targets", ["all", pytest.param(("token_embedding", "query"), marks=pytest.mark.slow)]
)
def test_what_is_merged_computes_the_same_in_every_kind_of_layer(data, targets):
    plan = recipe(stage(unfreeze="all", adapter=LoRA(rank=3, alpha=1.5, targets=targets)))
    staged = built(plan, data[1])
    before, inputs = values(staged), tokens(plan)
    plain = staged.model(inputs).numpy()
    with stage_adapters(staged, plan, plan.stages[0]):
        np.testing.assert_array_equal(staged.model(inputs), plain)
        moved(staged)
        expected = staged.model(inputs).numpy()
    assert np.abs(expected - plain).max() > 1e-3
    np.testing.assert_allclose(staged.model(inputs), expected, atol=1e-5)
    names = {path.split("/")[-2] for path in changed(before, values(staged))}
    if targets == "all":
        assert {"query", "key", "attention_output", "feedforward_output_dense"} < names
        assert "token_embedding" not in names
    else:
        assert names == {"token_embedding", "query"}


def test_a_merged_model_is_saved_and_loaded_without_a_trace(data, tmp_path):
    plan = recipe(stage())
    staged = built(plan, data[1])
    layers = layers_to_adapt(staged.backbone, plan.stages[0])
    configs = [layer.get_config() for layer in layers]
    with stage_adapters(staged, plan, plan.stages[0]):
        moved(staged)
    assert [layer.get_config() for layer in layers] == configs
    staged.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(tokens(plan)), staged.model(tokens(plan)))
    assert not [v.path for v in loaded.variables if "lora" in v.path]


@pytest.mark.slow
def test_later_stages_train_without_or_with_others(data, tmp_path, eager):
    plan = recipe(
        stage("first"),
        stage("plain", adapter=None, learning_rate=1e-3),
        stage("other", adapter=LoRA(rank=5, targets="all"), layer_decay=0.5, weight_decay=0.01),
    )
    staged, results = trained(plan, data, tmp_path / "run")
    first, plain, other = (set(each["audit"]["trained_layers"]) for each in results)
    assert TOP + "key" not in first and TOP + "key" in plain and TOP + "key" in other
    assert not plain & {each for each in plain if "layer_0" in each}
    assert "transformer_layer_1/self_attention_layer_norm" in plain - other
    assert not [path for path in values(staged) if "lora" in path]
    assert [each["frozen_blocks"].split()[0] for each in results] == ["computed"] * 3
    assert results[1]["total_parameters"] < results[0]["total_parameters"]


@pytest.mark.slow
def test_two_runs_are_bit_identical(data, tmp_path, eager):
    plan = recipe(stage("one"))
    first, second = (trained(plan, data, tmp_path / name)[0] for name in "ab")
    assert not changed(values(first), values(second))


def test_the_first_matrices_depend_on_seed_stage_and_layer_alone(data):
    plan = recipe(stage("one"), stage("two"))

    def start(plan, index, draws):
        keras.utils.set_random_seed(draws)  # what was drawn before says nothing
        staged = built(plan, data[1])
        keras.utils.set_random_seed(draws)
        with stage_adapters(staged, plan, plan.stages[index]):
            return [v.numpy() for v in adapter_variables(staged.backbone.model.layers)]

    same, again, later = start(plan, 0, 1), start(plan, 0, 2), start(plan, 1, 1)
    np.testing.assert_array_equal(same[0], again[0])
    assert not np.array_equal(same[0], later[0])
    assert not np.array_equal(same[0], same[2])  # nor are two layers alike
    assert not np.array_equal(same[0], start(dataclasses.replace(plan, seed=1), 0, 1)[0])


@pytest.mark.slow
def test_a_stage_that_fails_leaves_the_best_weights_merged(data, tmp_path, monkeypatch):
    from sft_keras.training import trainer as training

    def failing(staged, *arguments, **named):
        moved(staged)
        raise LossError("The loss became nan.")

    monkeypatch.setattr(training, "run_stage", failing)
    plan = recipe(stage())
    staged = built(plan, data[1])
    before = values(staged)
    (tmp_path / "run").mkdir()
    run = RunFolder(tmp_path / "run", is_quiet=True)
    with pytest.raises(LossError, match="best weights so far"):
        train_stages(Experiment(plan, staged, *data, run))
    assert changed(before, values(staged)) == {TOP + "query/kernel", TOP + "value/kernel"}
    loaded = keras.models.load_model(tmp_path / "run" / "last_good.keras")
    np.testing.assert_array_equal(loaded(tokens(plan)), staged.model(tokens(plan)))


def test_an_adapter_that_learnt_nothing_leaves_every_bit(data):
    plan = recipe(stage(adapter=LoRA(targets="all")))
    staged = built(plan, data[1])
    for layer in layers_to_adapt(staged.backbone, plan.stages[0]):
        layer._kernel.assign(np.full(layer._kernel.shape, -0.0))
    before = {path: value.tobytes() for path, value in values(staged).items()}
    with pytest.raises(KeyboardInterrupt), stage_adapters(staged, plan, plan.stages[0]):
        raise KeyboardInterrupt
    assert {path: value.tobytes() for path, value in values(staged).items()} == before


def test_the_workbench_hands_the_backbone_out_as_it_was(data):
    plan = recipe(stage())
    bench = TrialContext(lambda done, total: None)
    backbone = bench.backbone(plan)
    before = {v.path: v.numpy() for v in backbone.model.variables}
    staged = build_staged(plan, backbone, data[1])
    with stage_adapters(staged, plan, plan.stages[0]):
        moved(staged)
    assert changed(before, {v.path: v.numpy() for v in backbone.model.variables})
    again = bench.backbone(plan)
    assert not changed(before, {v.path: v.numpy() for v in again.model.variables})


@pytest.mark.slow
def test_a_whole_run_with_adapters_is_reported_and_served(tmp_path):
    plan = recipe(stage("head", unfreeze=0, adapter=None), stage("top", epochs=2))
    run = sft_keras.finetune(plan, run_dir=tmp_path / "run")
    assert run.report["export"]["largest_difference"] < 1e-5
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "head and rank-2 adapters in the top block" in page
    assert "in 2 layers, merged into their kernels" in (tmp_path / "run" / "log.txt").read_text()


# What a recipe may say


def test_adapters_that_cannot_be_are_refused_before_the_long_work(build_staged):
    backbone = build_text_backbone(Backbone(preset="tiny:bert"), "mean", 16)
    found = layers_to_adapt(backbone, stage(unfreeze=2))
    assert sorted(layer.path for layer in found) == [
        f"transformer_layer_{number}/self_attention_layer/{name}"
        for number in (0, 1)
        for name in ("query", "value")
    ]
    with pytest.raises(RecipeError, match=r"(?s)targets` must be.*'qurey'.*Did you mean 'query'"):
        layers_to_adapt(backbone, stage(adapter=LoRA(targets=("qurey", "value"))))
    images = build_staged().backbone
    with pytest.raises(RecipeError, match=r"`stages.top.adapter` is for Dense .*block3.* have no"):
        layers_to_adapt(images, stage())
    with pytest.raises(RecipeError, match="have none"), attach_adapters(images, stage(), seed=0):
        pass


def test_the_fields_are_checked_with_all_others():
    wrong = recipe(
        stage("a", unfreeze=0),
        stage("b", train_batch_norm=True, adapter=LoRA(rank=0, alpha=-1.0, targets=())),
        stage("c", adapter=LoRA(rank="8")),
        stage("d", adapter=8),
    )
    with pytest.raises(RecipeError) as caught:
        wrong.validate()
    message = str(caught.value)
    for part in (
        "`stages.a.adapter` requires unfrozen blocks, and there are none. Received: unfreeze=0.",
        "`stages.b.train_batch_norm` must be false",
        "`stages.b.adapter.rank` must be 1 or more. Received: 0.",
        "`stages.b.adapter.alpha` must be a number greater than 0",
        "`stages.b.adapter.targets` must be 'all', or at least one name",
        "`stages.c.adapter.rank` must be a whole number. Received: '8'.",
        "`stages.d.adapter` must be a LoRA or none. Received: 8.",
    ):
        assert part in message


def test_overrides_reach_into_an_adapter_make_one_and_take_it_off():
    plan = recipe(stage("head", unfreeze=0, adapter=None), stage("top"))

    def adapter(*overrides, number=1):
        return apply_overrides(plan, overrides).stages[number].adapter

    assert adapter("stages.top.adapter.rank=4") == LoRA(rank=4)
    assert adapter("stages.top.adapter.targets=all") == LoRA(rank=RANK, targets="all")
    given = adapter("stages.top.adapter.targets=feedforward_output_dense,mix")
    assert given.targets == ("feedforward_output_dense", "mix")
    assert adapter("stages.top.adapter=none") is None
    assert adapter("stages.head.adapter.rank=16", number=0) == LoRA(rank=16)
    with pytest.raises(RecipeError, match=r"LoRA has no field 'rnk'. Did you mean 'rank'"):
        adapter("stages.top.adapter.rnk=4")
    with pytest.raises(RecipeError, match="names a whole section"):
        adapter("stages.top.adapter=8")
    assert "stages.top.adapter.rank: 2" in to_lines(plan)
    assert to_plain(plan.stages[1])["adapter"] == {
        "rank": RANK,
        "alpha": None,
        "targets": ["query", "value"],
    }
