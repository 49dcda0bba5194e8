"""Fuzzes the readers of annotations and of detections, and the evaluation of what they take.

    python -m tests.fuzz.json_readers --seconds 600

An input that is a list is read as detections of a small data set, everything else as annotations.
"""

import copy
import json
import logging
import warnings
import zlib

from tests.fuzz import harness

with harness.instrumented():
    from pse_jax.data import coco
    from pse_jax.evaluation.arrays import Results
    from pse_jax.evaluation.coco import evaluate_coco

ANNOTATIONS = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 64, "height": 48},
        {"id": 9, "file_name": "sub\\b.jpg", "width": 48.0, "height": 64},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [8, 4, 40.5, 20], "area": 800},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 4, 4], "iscrowd": 1},
        {"image_id": 9, "category_id": 5, "bbox": [-3, 60, 99, 0]},
    ],
    "categories": [{"id": 3, "name": "dog"}, {"id": 5, "name": "kite"}],
}
DETECTIONS = [
    {"image_id": 7, "category_id": 3, "bbox": [9, 4, 40, 21], "score": 0.75},
    {"image_id": 9, "category_id": 5, "bbox": [1e3, 0, 4.5, 4], "score": -2},
]
WORDS = [
    *(b'"%s"' % key for key in (b"id", b"image_id", b"category_id", b"bbox", b"area", b"iscrowd",
      b"score", b"file_name", b"width", b"height", b"name")),
    b"NaN", b"-Infinity", b"1e308", b"1e999", b"-0", b"0.0", b"true", b"null", b"[]", b"{}", b'""',
    b"1" + b"0" * 400, b"9" * 5000, b"9223372036854775807", b"9223372036854775808", b"16777216",
    b"16777217", b"1000000000", b'"\\ud800"', b'"\\u0000"', b'"../x"', b'"/etc/passwd"',
    b"\xef\xbb\xbf", b"\xff\xfe", b"[" * 3000, b'{"a":' * 3000, b'"' + b"x" * 5000 + b'"', b"\xff",
]  # fmt: skip


def seeds():
    """Small files: whole, in other encodings, with every value replaced by odd ones."""
    whole = [ANNOTATIONS, DETECTIONS]
    for odd in (10**400, 10**30, 2**63, -(2**63), 1e308, float("nan"), True, "\ud800", None, [[]]):
        for content in (ANNOTATIONS, DETECTIONS):
            rows = content if isinstance(content, list) else content["annotations"]
            for key in rows[0]:
                changed = copy.deepcopy(content)
                (changed if isinstance(changed, list) else changed["annotations"])[0][key] = odd
                whole.append(changed)
    texts = [json.dumps(content) for content in whole]
    encoded = [texts[0].encode(code) for code in ("utf-8-sig", "utf-16", "utf-32-be")]
    return [*(text.encode() for text in texts), *encoded, b"", b"[", b"3"]


EVALUATED = 16  # one in so many of the inputs that are taken: it is slow
FOLDER = harness.scratch()
FILE = FOLDER / "input.json"
TRUTH = coco.load_ground_truth(ANNOTATIONS)


def read(data):
    """Reads the bytes as a file; what is taken must also be possible to evaluate."""
    FILE.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.lstrip()[:1] == b"[":
            truth, found = TRUTH, coco.load_results(FILE, TRUTH)
        else:
            truth = coco.load(FILE, FOLDER, require_images=False)
            scores = truth.area * 0.0 + 0.5
            found = Results("x", truth.image, truth.category, truth.boxes_xywh, scores)
        if len(found) < 20 and len(truth.image_ids) < 20 and len(truth.categories) < 20:
            if zlib.crc32(data) % EVALUATED == 0:
                evaluate_coco(truth, found, areas=False)
            if data.lstrip()[:1] != b"[":  # the readers agree
                assert len(coco.load_results(found.to_coco(truth), truth)) == len(found)


if __name__ == "__main__":
    logging.getLogger("pse_jax").setLevel(logging.CRITICAL)  # what is left out is logged
    harness.main(read, seeds(), WORDS)
