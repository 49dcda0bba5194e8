"""The association loss teaches the classification sub-net alone (paper, sec. III-C)."""

import jax
import numpy as np
import pytest
import tiny

from pse_jax import models
from pse_jax.training.objective import batch_losses

LOCALISATION = ("head/box_tower", "head/box_conv", "head/scales")
CLASSIFICATION = ("head/class_tower", "head/class_conv")


def flatten(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def by_term(one_device_mesh):
    """For each term of the loss, its gradient by every parameter: {term: {path: array}}."""
    config = tiny.make_config(norm="frozen_bn", frozen_stages=4)  # compiles sooner
    model = models.create(config.model, tiny.CLASSES)
    variables = tiny.make_variables(model)

    def terms(params, batch):
        losses = batch_losses(
            {**variables, "params": params}, batch, model, config, one_device_mesh
        )
        return {"cls": losses.classification, "box": losses.box, "assoc": losses.association}

    jacobian = jax.jit(jax.jacrev(terms), compiler_options=tiny.FAST)
    jacobian = jacobian(variables["params"], tiny.make_batch())
    return {term: flatten(tree) for term, tree in jacobian.items()}


def below(gradients, prefixes):
    chosen = {path: g for path, g in gradients.items() if path.startswith(prefixes)}
    assert len({p for p in prefixes if any(c.startswith(p) for c in chosen)}) == len(prefixes)
    return chosen


def test_association_reaches_the_classification_branch_alone(by_term):
    gradients = by_term["assoc"]
    for path, gradient in below(gradients, LOCALISATION).items():
        assert (gradient == 0).all(), path  # exactly
    for path, gradient in below(gradients, CLASSIFICATION).items():
        assert (gradient != 0).any(), path


def test_it_also_reaches_what_the_branches_share(by_term):
    gradients = by_term["assoc"]
    for path, gradient in below(
        gradients, ("backbone/layer4", "fpn/lateral", "fpn/output3")
    ).items():
        assert np.isfinite(gradient).all() and (gradient != 0).any(), path


def test_the_box_loss_teaches_the_localisation_branch_alone(by_term):
    gradients = by_term["box"]
    for path, gradient in below(gradients, LOCALISATION).items():
        assert (gradient != 0).any(), path
    for path, gradient in below(gradients, CLASSIFICATION).items():
        assert (gradient == 0).all(), path


def test_the_focal_loss_teaches_the_classification_branch_alone(by_term):
    gradients = by_term["cls"]
    assert all((g == 0).all() for g in below(gradients, LOCALISATION).values())
    assert all((g != 0).any() for g in below(gradients, CLASSIFICATION).values())
