"""The operators of torch that a file may name.

Loading a file must run nothing but arithmetic: no operator that reads or writes files, prints, shows
memory that was not written, or writes to its arguments, and none of another package's. Hence a list of
what models are made of; among the overloads of these, the ones that write are refused by their schema.
"""

from __future__ import annotations

import torch

from inference.graph import Graph, TorchOp
from inference.operators import OPERATOR_NAMES, SYMBOLIC_NAMES, resolve

# By what they do
FAMILIES = {
    "elementwise": """
        abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan
        arctan2 arctanh asin asinh atan atan2 atanh bitwise_and bitwise_left_shift bitwise_not
        bitwise_or bitwise_right_shift bitwise_xor ceil celu clamp clamp_max clamp_min clip copysign
        cos cosh deg2rad div divide elu eq erf erfc erfinv exp exp2 expm1 fill float_power floor
        floor_divide fmax fmin fmod frac ge gelu greater greater_equal gt hardshrink hardsigmoid
        hardswish hardtanh heaviside hypot isclose isfinite isinf isnan isneginf isposinf ldexp le
        leaky_relu lerp less less_equal lgamma log log10 log1p log2 log_sigmoid log_sigmoid_forward
        logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt masked_fill
        maximum minimum mish mul multiply nan_to_num ne neg negative nextafter not_equal positive
        pow prelu rad2deg reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn sigmoid
        sign signbit silu sin sinc sinh softplus softshrink special_entr special_erf special_erfc
        special_erfcx special_expit special_log1p special_logit special_ndtr special_xlogy sqrt
        square sub subtract tan tanh threshold true_divide trunc where xlogy __and__ __lshift__
        __or__ __rshift__ __xor__
    """,
    "along a dimension": """
        all amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum
        diff kthvalue linalg_norm linalg_vector_norm log_softmax logcumsumexp logsumexp max mean
        median min mode nanmean nanmedian nansum norm prod softmax sort special_logsumexp std
        std_mean sum topk var var_mean _log_softmax _safe_softmax _softmax
    """,
    "shapes": """
        adjoint alias alias_copy atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat
        channel_shuffle chunk clone column_stack concat concatenate constant_pad_nd contiguous
        detach detach_copy diag diag_embed diagonal diagonal_copy dstack expand expand_as
        expand_copy flatten flip fliplr flipud hstack lift_fresh_copy mT meshgrid moveaxis movedim
        narrow numel numpy_T pad permute permute_copy pixel_shuffle pixel_unshuffle ravel
        reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
        replication_pad1d replication_pad2d replication_pad3d reshape reshape_as roll rot90 select
        select_copy size slice slice_copy split split_copy split_with_sizes split_with_sizes_copy
        squeeze squeeze_copy stack sym_numel sym_size t t_copy tensor_split tile to transpose
        transpose_copy tril triu type_as unbind unbind_copy unflatten unfold unfold_copy unsqueeze
        unsqueeze_copy view view_as view_copy vstack _reshape_copy _to_copy
    """,
    "constants": """
        arange bernoulli eye full full_like linspace new_full new_ones new_zeros ones ones_like rand
        rand_like randint randint_like randn randn_like scalar_tensor tril_indices triu_indices
        zeros zeros_like
    """,
    "indices": """
        bucketize diagonal_scatter embedding gather index index_add index_copy index_fill index_put
        index_select isin masked_scatter one_hot scatter scatter_add scatter_reduce searchsorted
        select_scatter slice_scatter take take_along_dim
    """,
    "layers": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d addbmm addmm addmv addr affine_grid_generator
        alpha_dropout avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bmm cdist col2im
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
        cosine_similarity cross dot dropout einsum feature_alpha_dropout feature_dropout glu
        grid_sampler grid_sampler_2d grid_sampler_3d group_norm gru gru_cell im2col inner
        instance_norm kron layer_norm linalg_cross linalg_vecdot linear lstm lstm_cell matmul
        max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
        max_pool3d_with_indices mm mv native_batch_norm native_group_norm native_layer_norm outer
        pairwise_distance rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell
        scaled_dot_product_attention tensordot upsample_bicubic2d upsample_bilinear2d
        upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
        upsample_trilinear3d _fused_rms_norm _native_batch_norm_legit_no_training
        _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d
    """,
}
ATEN = frozenset(name for names in FAMILIES.values() for name in names.split())


def is_allowed(target: str) -> bool:
    """Say whether a file may name an operator, given as `inference.operators.operator_name` does."""
    home, _, name = target.partition(".")
    if home == "operator":
        return name in OPERATOR_NAMES
    if home == "torch":
        return name in SYMBOLIC_NAMES
    packet, _, overload = name.partition(".")
    if home != "aten" or packet not in ATEN:
        return False
    if not overload.isidentifier() or overload.startswith("__"):
        return False
    try:
        found = resolve(target)
    except ValueError:
        return False
    return isinstance(found, torch._ops.OpOverload) and not found._schema.is_mutable


def check_operators(graph: Graph) -> None:
    """Refuse a graph with operators that no file may name.

    Raises:
        ValueError: If there is one.
    """
    for node in graph.nodes:
        if isinstance(node, TorchOp) and not is_allowed(node.target):
            raise ValueError(
                f"node {node.name!r} calls {node.target[:80]!r}; a file may only name the operators of "
                "torch that inference.artifact.allowed lists"
            )
