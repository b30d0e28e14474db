"""What trains in a stage, and the audit of what moved."""

import numpy as np
import pytest

from sft_keras import Stage
from sft_keras.core.errors import AuditError
from sft_keras.training.audit import audit_stage, fingerprints
from sft_keras.training.freezing import may_move, set_trainable

HEAD = {"hidden_1/kernel", "hidden_1/bias", "logits/kernel", "logits/bias"}
STEM = {"stem_conv/kernel", "stem_conv/bias"}
BLOCK1 = {"block1_conv/kernel", "block1_conv/bias"}
BLOCK2 = {"block2_mix/scale", "block2_mix/dense/kernel", "block2_mix/dense/bias"}
BLOCK3 = {"block3_conv/kernel", "block3_conv/bias"}
NORM2, NORM3 = (
    {f"{norm}/{name}" for name in ("gamma", "beta")} for norm in ("block2_mix/norm", "block3_norm")
)
STATISTICS3 = {"block3_norm/moving_mean", "block3_norm/moving_variance"}


@pytest.fixture
def staged(build_staged):
    return build_staged()


def stage(unfreeze=0, **fields):
    return Stage(name="top", epochs=1, learning_rate=1e-3, unfreeze=unfreeze, **fields)


def paths(variables):
    found = [v.path for v in variables]
    assert len(set(found)) == len(found)
    return set(found)


def variable(staged, path):
    (found,) = [v for v in staged.model.variables if v.path == path]
    return found


def nudge(staged, *names):
    for name in names:
        variable(staged, name).assign_add(np.full(variable(staged, name).shape, 0.1))


def test_exactly_the_unfrozen_blocks_and_the_head_train_after_any_toggling(staged):
    trains = {
        0: HEAD,
        1: HEAD | BLOCK3,
        2: HEAD | BLOCK3 | BLOCK2,
        3: HEAD | BLOCK3 | BLOCK2 | BLOCK1,
        "all": HEAD | BLOCK3 | BLOCK2 | BLOCK1 | STEM,
    }
    for unfreeze in (0, 2, 0, "all", 1, 3, 0, 2, "all", 0):
        set_trainable(staged, stage(unfreeze))
        assert paths(staged.model.trainable_variables) == trains[unfreeze]
        assert paths(staged.stage_model(unfreeze).trainable_variables) == trains[unfreeze]


def test_batch_norm_trains_when_asked_and_only_in_unfrozen_blocks(staged):
    for _ in range(2):
        set_trainable(staged, stage(2, train_batch_norm=True))
        trains = HEAD | BLOCK3 | BLOCK2 | NORM2 | NORM3
        assert paths(staged.model.trainable_variables) == trains
        set_trainable(staged, stage(2))
        assert paths(staged.model.trainable_variables) == trains - NORM2 - NORM3


def test_a_backbone_that_came_frozen_as_a_whole_is_unfrozen(staged):
    staged.backbone.model.trainable = False
    set_trainable(staged, stage("all"))
    everything = HEAD | BLOCK3 | BLOCK2 | BLOCK1 | STEM
    assert paths(staged.stage_model("all").trainable_variables) == everything
    assert paths(staged.model.trainable_variables) == everything


def test_a_head_that_was_frozen_trains(staged):
    staged.head.trainable = False
    set_trainable(staged, stage(0))
    assert paths(staged.stage_model(0).trainable_variables) == HEAD


def test_what_may_move_follows_the_recipe_and_not_the_flags(staged):
    staged.model.trainable = False
    assert paths(may_move(staged, stage(0)).values()) == HEAD
    assert paths(may_move(staged, stage(2)).values()) == HEAD | BLOCK3 | BLOCK2
    moving = may_move(staged, stage(1, train_batch_norm=True)).values()
    assert paths(moving) == HEAD | BLOCK3 | NORM3 | STATISTICS3


def test_the_audit_counts_what_moved_and_what_did_not(staged):
    set_trainable(staged, stage(2))
    before = fingerprints(staged)
    nudge(staged, "logits/bias", "block3_conv/kernel", "block2_mix/scale")
    audit = audit_stage(staged, stage(2), before)
    assert audit.trained_layers == ("block2_mix", "block3_conv", "logits")
    assert audit.moved_variables == 3
    assert audit.frozen_variables == len(STEM) + len(BLOCK1) + 3 * 4
    assert audit.frozen_identical
    assert audit.batch_norm_frozen_identical == 3
    still = HEAD | BLOCK3 | BLOCK2
    still -= {"logits/bias", "block3_conv/kernel", "block2_mix/scale"}
    assert set(audit.unmoved_trainable) == still
    assert audit.as_json()["trained_layers"] == ["block2_mix", "block3_conv", "logits"]


def test_batch_norm_that_trains_is_not_counted_as_frozen(staged):
    training = stage(1, train_batch_norm=True)
    set_trainable(staged, training)
    before = fingerprints(staged)
    nudge(staged, "block3_norm/moving_mean", "logits/bias")
    audit = audit_stage(staged, training, before)
    assert audit.batch_norm_frozen_identical == 2
    assert audit.trained_layers == ("block3_norm", "logits")


@pytest.mark.parametrize(
    "stray", ["block3_norm/moving_mean", "block3_norm/gamma", "block1_conv/kernel"]
)
def test_the_audit_names_a_frozen_variable_that_moved(staged, stray):
    set_trainable(staged, stage(1))
    before = fingerprints(staged)
    nudge(staged, "logits/bias", stray)
    with pytest.raises(AuditError, match=rf"'top' changed .* \(1 of \d+\): {stray}\."):
        audit_stage(staged, stage(1), before)


def test_the_smallest_step_of_a_single_number_is_seen(staged):
    set_trainable(staged, stage(0))
    before = fingerprints(staged)
    nudge(staged, "logits/bias")
    kernel = variable(staged, "stem_conv/kernel")
    values = kernel.numpy()
    values.flat[7] = np.nextafter(values.flat[7], np.float32(1))
    kernel.assign(values)
    with pytest.raises(AuditError, match="stem_conv/kernel"):
        audit_stage(staged, stage(0), before)


def test_a_stage_that_moved_nothing_is_refused(staged):
    set_trainable(staged, stage(0))
    before = fingerprints(staged)
    with pytest.raises(
        AuditError, match=r"'top' trained nothing: none of its 4 .*hidden_1/bias.* 0\.001; raise it"
    ):
        audit_stage(staged, stage(0), before)


def test_statistics_that_moved_do_not_pass_for_training(staged):
    training = stage(1, train_batch_norm=True)
    set_trainable(staged, training)
    before = fingerprints(staged)
    nudge(staged, "block3_norm/moving_mean")
    with pytest.raises(AuditError, match="trained nothing"):
        audit_stage(staged, training, before)


def test_a_stage_of_which_all_flags_are_off_is_refused(staged):
    set_trainable(staged, stage(0))
    before = fingerprints(staged)
    staged.head.trainable = False
    with pytest.raises(AuditError, match=r"none of its 0 trainable .*there are none"):
        audit_stage(staged, stage(0), before)


def test_states_of_dropout_are_no_part_of_the_audit(staged):
    before = fingerprints(staged)
    staged.model(np.zeros((1, 16, 16, 3)), training=True)
    moved = {name for name, print_ in fingerprints(staged).items() if print_ != before[name]}
    assert {name.split("/")[-1] for name in moved} == {"moving_mean", "moving_variance"}


@pytest.mark.parametrize("unfreeze", [0, 1])
def test_two_variables_of_one_name_are_told_apart(staged_of_equal_names, unfreeze):
    ambiguous = staged_of_equal_names
    set_trainable(ambiguous, stage(unfreeze))
    lower = ambiguous.backbone.model.layers[1]
    upper = ambiguous.head.layers[-1]
    assert lower.kernel.path == upper.kernel.path
    assert len(fingerprints(ambiguous)) == 4
    assert len(may_move(ambiguous, stage(unfreeze))) == (4 if unfreeze else 2)

    before = fingerprints(ambiguous)
    upper.kernel.assign_add(np.ones((4, 3)))
    assert audit_stage(ambiguous, stage(unfreeze), before).moved_variables == 1

    before = fingerprints(ambiguous)
    lower.kernel.assign_add(np.ones((3, 4)))
    if unfreeze:
        assert audit_stage(ambiguous, stage(unfreeze), before).moved_variables == 1
    else:
        with pytest.raises(AuditError, match="changed variables that should have stayed frozen"):
            audit_stage(ambiguous, stage(unfreeze), before)
