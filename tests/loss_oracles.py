"""The loss family in float64 NumPy, from the published formulas.

`fixed` is a second copy of the logits: the one that detached factors see. Finite differences that
move the first copy alone are then what `jax.grad` must give.
"""

import numpy as np


def sigmoid(o):
    return 1 / (1 + np.exp(-np.asarray(o, np.float64)))


def bce(p, t):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def entropy(p):
    return -sum(v * np.log(np.where(v > 0, v, 1)) for v in (p, 1 - p))


def focal(p, positive, c):
    right = np.where(positive, p, 1 - p)
    weight = np.where(positive, c.focal_alpha, 1 - c.focal_alpha)
    return -weight * (1 - right) ** c.focal_gamma * np.log(right)


def focal_slope(s, c):
    """d focal/dp of a positive, by a difference: independent of any derivation."""
    h = 1e-7  # errs by about 1e-9
    return (focal(s + h, True, c) - focal(s - h, True, c)) / (2 * h)


def association(o, iou, fixed, c):
    """Elementwise, of the logits `o`."""
    p, line = sigmoid(o), c.k * iou
    if c.association == "none":
        return 0 * p
    if c.association == "pse":
        return c.beta * (p - line) ** 2
    if c.association == "pce":
        return -c.beta * np.log(1 - abs(p - np.clip(line, 0, 1)))
    if c.association == "tc":
        weight = 1 / (1 + np.exp(entropy(sigmoid(fixed))))
        return c.beta * weight * np.maximum(0, abs(p - line) - 0.2)
    if c.association == "pse_logit":
        s = np.clip(line, 0, 1)
        return 2 * c.beta * (bce(p, s) - entropy(s))
    s = np.clip(line, 0.05, 1 - 1e-6)
    slope = focal_slope(s, c)
    if c.association == "pse_shifted":
        return c.beta * (p - s) ** 2 - slope * (p - s)
    assert c.association == "pse_logit_shifted"
    pull = np.minimum(-slope * s * (1 - s), c.focal_alpha + c.beta * s)
    gap = np.asarray(o, np.float64) - np.log(s / (1 - s))
    return 2 * c.beta * (bce(p, s) - entropy(s)) + pull * gap


def object_association(o, iou, positive, matched, c):
    """[b, p], object by object; 0 away from positives."""
    loss, iou = np.zeros(o.shape), np.asarray(iou, np.float64)
    for image in range(len(o)):
        for thing in set(matched[image].tolist()):
            mine = [i for i in np.flatnonzero(positive[image]) if matched[image][i] == thing]
            best = max(mine, key=lambda i: iou[image][i], default=None)
            for i in mine:
                gap = iou[image][best] - iou[image][i]
                loss[image][i] = c.beta * gap * np.log1p(np.exp(o[image][i] - o[image][best]))
    if c.association == "pce_best_first":
        p, line = sigmoid(o), np.clip(c.k * iou, 0, 1)
        loss -= c.beta * np.log(1 - abs(p - line)) * positive
    else:
        assert c.association == "best_first"
    return loss


def soft_ranks(values, cells=32):
    """Pair by pair: each value spread over its two grid points, compared point by point."""

    def spread(v):
        at = min(int(v * cells), cells - 1)
        share = v * cells - at
        return ((at, 1 - share), (at + 1, share))

    def before(v, w):
        return sum(a * b * ((j < i) + (j == i) / 2) for i, a in spread(v) for j, b in spread(w))

    return np.array([np.mean([before(v, w) for w in values]) for v in values])


def batch_association(o, iou, c):
    """Of the logits and IoUs of all positives, in lists."""
    p, q = sigmoid(o), np.asarray(iou, np.float64)
    if c.association == "spearman":
        p, q = soft_ranks(p), soft_ranks(q)
    if c.association == "concordance":
        q = c.k * q
        cov = np.cov(p, q, bias=True)
        rho = 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (p.mean() - q.mean()) ** 2)
    else:
        rho = np.corrcoef(p, q)[0, 1]
    return c.beta * (1 - rho)


def classification(o, one_hot, iou, matched, fixed, c):
    """[b, p, c] of logits, given which class is whose and the IoU [b, p] of every location."""
    p, frozen, q = sigmoid(o), sigmoid(fixed), np.where(one_hot, iou[..., None], 0.0)
    if c.classification in ("focal", "iou_balanced"):
        loss = focal(p, one_hot, c)
        if c.classification == "iou_balanced":
            of_positives, power = focal(frozen, one_hot, c)[one_hot], q[one_hot] ** 1.5
            loss[one_hot] *= power * of_positives.sum() / (power * of_positives).sum()
        return loss
    if c.classification == "vfl":
        return np.where(q > 0, q * bce(p, q), -0.75 * p**2 * np.log(1 - p))
    if c.classification == "mal":
        return np.where(one_hot, bce(p, q**1.5), frozen**1.5 * bce(p, 0.0))
    if c.classification == "ia_bce":
        t = np.maximum(frozen**0.25 * q**0.75, 0.01)
        return np.where(one_hot, bce(p, t), p**2 * bce(p, 0.0))
    if c.classification == "tal":
        q = 0 * q
        for image in range(len(q)):
            for thing in set(matched[image].tolist()):
                mine = [i for i in np.argwhere(one_hot[image]) if matched[image][i[0]] == thing]
                aligned = [frozen[image][tuple(i)] * iou[image][i[0]] ** 6 for i in mine]
                for i, t in zip(mine, aligned, strict=True):
                    best = max(iou[image][j[0]] for j in mine)
                    q[image][tuple(i)] = t / max(aligned) * best
    else:
        assert c.classification == "qfl"
    return abs(q - p) ** 2 * bce(p, q)
