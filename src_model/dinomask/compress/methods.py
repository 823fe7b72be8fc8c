"""Every compression method by name; command line, panel and docs derive from this list.

No torch here. A method is added with a row, a class of settings in
`dinomask.config.compress` if it has any, and an object with the two functions of
`dinomask.compress.method.Implementation`; ``tests/contracts/test_compression.py``
then runs it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from dinomask.compress.method import Method, Stage
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = (
    Method(
        "lora-sparsify",
        "Set the entries of an adapter's matrices to zero that change its update least",
        Stage.ADAPTER,
        "dinomask.compress.adapters:SPARSIFY",
        gain="Smaller adapter files; no speed, as a merged adapter costs nothing.",
    ),
    Method(
        "lora-int8",
        "Store an adapter's matrices in eight bits",
        Stage.ADAPTER,
        "dinomask.compress.adapters:INT8",
        gain="Adapter files of a quarter; no speed, as a merged adapter costs nothing.",
    ),
    Method(
        "merge",
        "Add the adapter's LoRA matrices to the weights (Hu et al., arXiv 2106.09685)",
        Stage.MERGE,
        "dinomask.compress.precision:MERGE",
        gain="One checkpoint instead of two; costs nothing when segmenting.",
    ),
    Method(
        "coarse",
        "Show the network objects at fewer pixels (Tan and Le, arXiv 1905.11946)",
        Stage.PRUNE,
        "dinomask.compress.coarse:COARSE",
        gain="Faster by the square of the ratio, with any backbone; follow it by distil.",
    ),
    Method(
        "head-prune",
        "Remove the attention heads that matter least (Michel et al., arXiv 1905.10650)",
        Stage.PRUNE,
        "dinomask.compress.prune:HEADS",
        needs="images",
        gain="Smaller and faster; follow it by distil.",
    ),
    Method(
        "mlp-prune",
        "Remove the hidden units that matter least (Molchanov et al., arXiv 1906.10771)",
        Stage.PRUNE,
        "dinomask.compress.prune:MLP",
        needs="images",
        gain="Smaller and faster; follow it by distil.",
    ),
    Method(
        "block-prune",
        "Remove whole blocks, those without which the outputs change least",
        Stage.PRUNE,
        "dinomask.compress.prune_blocks:BLOCKS",
        needs="images",
        gain="Smaller and faster; follow it by distil.",
    ),
    Method(
        "channel-prune",
        "Remove the channels of pyramid and heads that matter least (He et al., arXiv 1707.06168)",
        Stage.PRUNE,
        "dinomask.compress.channels:CHANNELS",
        needs="images",
        gain="Faster with any backbone, and a little smaller; follow it by distil.",
    ),
    Method(
        "window",
        "Let most blocks attend within windows (Li et al., arXiv 2203.16527)",
        Stage.PRUNE,
        "dinomask.compress.mixing:WINDOWS",
        gain="Faster on tiles larger than a window; no smaller.",
    ),
    Method(
        "token-merge",
        "Merge similar tokens in each block (Bolya et al., arXiv 2210.09461)",
        Stage.PRUNE,
        "dinomask.compress.mixing:MERGING",
        gain="Faster, with coarser features; no smaller.",
    ),
    Method(
        "svd",
        "Split linear layers in two of low rank (Wang et al., arXiv 2403.07378)",
        Stage.FACTORISE,
        "dinomask.compress.factorise:SVD",
        needs="images",
        gain="Smaller and a little faster, where a layer's rank is low.",
    ),
    Method(
        "share",
        "Let neighbouring blocks share weights (Lan et al., arXiv 1909.11942)",
        Stage.SHARE,
        "dinomask.compress.share:SHARE",
        gain="Smaller, no faster; needs distil to work again.",
    ),
    Method(
        "distil",
        "Train on your images to answer as the uncompressed model does, labels or not"
        " (Hinton et al., arXiv 1503.02531)",
        Stage.TRAIN,
        "dinomask.compress.student:DISTIL",
        needs="images",
        gain="Wins back accuracy that other methods lost; with a student, a smaller model.",
    ),
    Method(
        "qat",
        "Train on your images under the rounding of eight bits (Jacob et al., arXiv 1712.05877)",
        Stage.TRAIN,
        "dinomask.compress.qat:QAT",
        needs="images",
        gain="An int8 method after it loses less; alone neither smaller nor faster.",
    ),
    Method(
        "sparsify",
        "Set the smallest weights of each matrix and kernel to zero (Han et al., arXiv 1506.02626)",
        Stage.SPARSIFY,
        "dinomask.compress.sparsify:SPARSIFY",
        gain="Smaller files; no speed, as zeros are multiplied like other numbers.",
    ),
    Method(
        "sparse-24",
        "Set two of each four weights to zero (Mishra et al., arXiv 2104.08378)",
        Stage.SPARSIFY,
        "dinomask.compress.sparsify:SPARSE_24",
        gain="Faster on NVIDIA GPUs from Ampere on; elsewhere it isn't applied.",
    ),
    Method(
        "fuse",
        "Compute batch norms and layer scales into the layers before them (arXiv 1712.05877)",
        Stage.SPARSIFY,
        "dinomask.compress.fusing:FUSE",
        gain="A little faster, with the same results but for rounding.",
    ),
    Method(
        "bf16",
        "Compute matrix products in bfloat16",
        Stage.QUANTISE,
        "dinomask.compress.precision:BF16",
        gain="Faster on CUDA and on CPUs with matrix units (AMX); slower on other CPUs.",
    ),
    Method(
        "fp16",
        "Compute matrix products in half precision",
        Stage.QUANTISE,
        "dinomask.compress.precision:FP16",
        gain="Faster on CUDA. Files hold half precision in any case.",
    ),
    Method(
        "int8-openvino",
        "Quantise to 8 bits with NNCF for OpenVINO, calibrated on your images",
        Stage.EXPORT,
        "dinomask.compress.openvino:INT8_OPENVINO",
        needs="images",
        gain="The fastest on CPUs with VNNI or AMX; a third of the size.",
    ),
    Method(
        "openvino",
        "Export for OpenVINO",
        Stage.EXPORT,
        "dinomask.compress.openvino:OPENVINO",
        gain="A little faster than PyTorch on CPUs; as accurate.",
    ),
    Method(
        "int8-dynamic",
        "Keep linear layers in 8 bits in PyTorch, without calibration",
        Stage.EXPORT,
        "dinomask.compress.torch_backends:INT8_DYNAMIC",
        gain="Half the file; faster than float32 on CPUs with VNNI, not than bfloat16 on AMX.",
    ),
    Method(
        "compiled",
        "Have PyTorch compile the network when it is loaded",
        Stage.EXPORT,
        "dinomask.compress.torch_backends:COMPILED",
        gain="Somewhat faster after a warm-up of up to a minute: for long jobs.",
    ),
    Method(
        "int8-onnx",
        "Quantise to 8 bits for ONNX Runtime, calibrated on your images",
        Stage.EXPORT,
        "dinomask.compress.onnx:INT8_ONNX",
        needs="images",
        gain="Runs where OpenVINO doesn't; needs VNNI on Intel and AMD processors.",
    ),
    Method(
        "int8-onnx-dynamic",
        "Quantise matrix products to 8 bits for ONNX Runtime, without calibration",
        Stage.EXPORT,
        "dinomask.compress.onnx:INT8_ONNX_DYNAMIC",
        gain="Smaller files; convolutions stay as slow as they are.",
    ),
    Method(
        "onnx",
        "Export for ONNX Runtime, readable in Netron and by other programs",
        Stage.EXPORT,
        "dinomask.compress.onnx:ONNX",
        gain="Runs anywhere without PyTorch's network; no faster on a CPU.",
    ),
    Method(
        "tensorrt",
        "Export for TensorRT through ONNX Runtime",
        Stage.EXPORT,
        "dinomask.compress.onnx:TENSOR_RT",
        gain="Faster on NVIDIA cards.",
    ),
)
"""In the order in which they are applied: by stage, and within a stage by place."""


def find_methods(names: Iterable[str]) -> list[Method]:
    """Return methods by their names, in the order in which they are applied.

    Raises
    ------
    SettingsError
        If there is none, one is unknown or named twice.
    """
    known = {method.name: method for method in METHODS}
    chosen: list[Method] = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"Did you mean {close[0]}? " if close else ""
            raise SettingsError(
                expected="the name of a compression method",
                got=f"{name!r}",
                remedy=f"{guess}Methods: {', '.join(known)}.",
            )
        if known[name] in chosen:
            raise SettingsError(
                expected="each method once",
                got=f"{name} twice",
                remedy="Name it once; a stronger effect is a matter of its settings.",
            )
        chosen.append(known[name])
    if not chosen:
        raise SettingsError(
            expected="at least one compression method",
            got="none",
            remedy=f"Choose among {', '.join(known)}.",
        )
    return [method for method in METHODS if method in chosen]
