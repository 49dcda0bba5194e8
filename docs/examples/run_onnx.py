"""Runs an exported detector with onnxruntime and numpy alone.

python run_onnx.py model.onnx photo.npy [photo.npy ...]     each uint8 RGB [height, width, 3]
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])  # id to name
for path in sys.argv[2:]:
    pixels = np.load(path)
    results = session.run(
        ["boxes_xyxy", "scores", "category_ids", "count"], {"images": pixels[None]}
    )
    boxes, scores, ids, count = (result[0] for result in results)
    print(f"{path}: {count} detections")
    for box, score, category in zip(boxes[:count], scores[:count], ids[:count], strict=True):
        edges = " ".join(f"{edge:.2f}" for edge in box)  # left, top, right, bottom, px
        print(f"{labels[str(category)]} {score:.5f} {edges}")
