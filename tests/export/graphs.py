"""Parts of an ONNX graph, run on their own."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from pse_jax.export.onnx.graph import IR_VERSION, OPSET


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model if isinstance(model, str) else model.SerializeToString(), options
    )


def runner(graph, inputs, outputs):
    """A function of the named inputs' arrays; `inputs` gives element type and shape of each."""
    infos = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "part", infos, results, list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    made = session(model)
    return lambda **arrays: made.run(None, {k: np.asarray(v) for k, v in arrays.items()})
