"""Plain Python that more than one test compares with."""

import math

import numpy as np


def loop_iou(a, b):
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    both = max(width, 0) * max(height, 0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both
    return np.float32(both) / np.float32(union) if union > 0 else np.float32(0)


def loop_nms(boxes, scores, labels, valid, threshold, count):
    """Indices kept, best first."""
    kept = []
    for i in sorted(np.flatnonzero(valid), key=lambda i: (-scores[i], i)):
        rivals = [j for j in kept if labels[j] == labels[i]]
        if all(loop_iou(boxes[j], boxes[i]) <= np.float32(threshold) for j in rivals):
            kept.append(i)
    return kept[:count]


def loop_losses(batch, config):
    """(classification, box, association, positives) of a batch, location by location.

    A batch is (logits, distances, positive, label, wanted distances, image_valid).
    """
    logits, distances, positive, label, wanted, image_valid = batch
    cls = box = tie = 0.0
    count = 0
    for i in np.flatnonzero(image_valid):
        for p in range(logits.shape[1]):
            scores = [1 / (1 + math.exp(-float(o))) for o in logits[i, p]]
            for c, score in enumerate(scores):
                if positive[i, p] and label[i, p] == c:
                    weight, right = config.focal_alpha, score
                else:
                    weight, right = 1 - config.focal_alpha, 1 - score
                cls -= weight * (1 - right) ** config.focal_gamma * math.log(right)
            if not positive[i, p]:
                continue
            count += 1
            (al, at, ar, ab), (bl, bt, br, bb) = distances[i, p].tolist(), wanted[i, p].tolist()
            both = (min(al, bl) + min(ar, br)) * (min(at, bt) + min(ab, bb))
            union = (al + ar) * (at + ab) + (bl + br) * (bt + bb) - both
            smoothed = (both + config.iou_smooth) / (union + config.iou_smooth)
            box -= config.box_weight * math.log(smoothed)
            iou = (both + config.target_smooth) / (union + config.target_smooth)
            score = max(scores) if config.score == "max" else scores[label[i, p]]
            if config.association == "pse":
                tie += config.beta * (score - config.k * iou) ** 2
            elif config.association == "pce":
                tie -= config.beta * math.log(1 - abs(score - min(config.k * iou, 1.0)))
    divisor = max(count, 1)
    return cls / divisor, box / divisor, tie / divisor, count
