// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/cudnn_graph_cuda.h"

#include <optional>

namespace farsight::cuda {
namespace {

constexpr auto kBf16 = CUDNN_DATA_BFLOAT16;
constexpr auto kF32 = CUDNN_DATA_FLOAT;
constexpr auto kInt32 = CUDNN_DATA_INT32;
constexpr auto kBool = CUDNN_DATA_BOOLEAN;

cudnnDataType_t native(DType type) { return type == DType::bf16 ? kBf16 : kF32; }

// Axes 2 and 3 exchanged: the same memory, transposed.
GraphDims transposed(GraphDims d) { return {d[0], d[1], d[3], d[2]}; }

// What both graphs have in common.
class SdpaBuilder {
 public:
  SdpaBuilder(const CudaSdpa& call, SdpaGraph& graph) : a(call), g(graph.parts), operands_(graph.operands) {
    if (!packed()) return;
    const GraphDims lengths{a.batch, 1, 1, 1};
    q_lengths_ = workspace(SdpaTensor::q_lengths, lengths, packed_strides(lengths), kInt32, a.batch * 4);
    k_lengths_ = workspace(SdpaTensor::k_lengths, lengths, packed_strides(lengths), kInt32, a.batch * 4);
  }

  const CudaSdpa& a;
  GraphBuilder& g;

  bool packed() const { return a.packing.q_starts != nullptr; }
  GraphDims queries(int64_t width) const { return {a.batch, a.heads, a.q_tokens, width}; }
  GraphDims keys(int64_t width) const { return {a.batch, a.kv_heads, a.k_tokens, width}; }
  GraphDims scores() const { return queries(a.k_tokens); }

  // [B, H, T, D] of rows [B * T, H * D].
  GraphTensor rows(SdpaTensor id, const GraphDims& dims, int64_t stride, cudnnDataType_t type) {
    return operand(id, dims, {dims[2] * stride, dims[3], stride, 1}, type, 0);
  }
  GraphTensor rows_transposed(SdpaTensor id, const GraphDims& dims, int64_t stride) {
    return operand(id, transposed(dims), {dims[2] * stride, dims[3], 1, stride}, kBf16, 0);
  }
  // One number per query and head, laid out like lse.
  GraphTensor statistic(SdpaTensor id) {
    const int64_t tokens = packed() ? a.packing.lse_tokens : a.q_tokens;
    const int64_t numbers = a.heads * (packed() ? a.packing.q_rows : a.batch * tokens);
    return operand(id, queries(1), {a.heads * tokens, tokens, 1, 1}, kF32, id == SdpaTensor::lse ? 0 : numbers * 4);
  }
  GraphTensor query_sum() {
    const GraphDims dims = queries(a.width);
    if (!packed()) {
      return workspace(SdpaTensor::dq_sum, dims, packed_strides(dims), kF32, a.batch * packed_strides(dims)[0] * 4);
    }
    const int64_t stride = a.heads * a.width;
    return operand(SdpaTensor::dq_sum, dims, {a.q_tokens * stride, a.width, stride, 1}, kF32,
                   a.packing.q_rows * stride * 4);
  }
  // Gradient of keys or values for each query head. In memory only if packed: then the library sizes it by the rows
  // that there are. It takes the offsets of `of`, whose heads are fewer, times the heads of a group. Bytes as if fp32.
  GraphTensor every_head(const GraphTensor& of) {
    const GraphDims dims{a.batch, a.heads, a.k_tokens, of.dims[3]};
    if (!packed()) return g.inner(dims, kBf16);
    const int64_t group = a.heads / a.kv_heads;
    const GraphDims strides{of.strides[0] * group, of.strides[1], of.strides[2] * group, 1};
    const bool keys = of.id == static_cast<int64_t>(SdpaTensor::dk);
    const SdpaTensor id = keys ? SdpaTensor::dk_heads : SdpaTensor::dv_heads;
    operands_.push_back({id, a.packing.k_rows * strides[2] * 4});
    return g.external(static_cast<int64_t>(id), dims, strides, kBf16, of.ragged);
  }
  GraphTensor scalar(SdpaTensor id, cudnnDataType_t type = kF32) {
    operands_.push_back({id, 0});
    return g.scalar(static_cast<int64_t>(id), type);
  }

  // c = a b where a or b has queries and keys in these axes; what is beyond a document's end does not count.
  enum class Axes { none, queries, keys };
  void matmul(const GraphTensor& x, const GraphTensor& y, const GraphTensor& z, Axes m, Axes n, Axes k,
              bool pad = false) {
    g.matmul(x, y, z, {lengths(m), lengths(n), lengths(k), pad && packed()});
  }

  GraphTensor scaled_scores(const GraphTensor& q, const GraphTensor& kt, const GraphTensor& scale, bool pad) {
    const GraphTensor s = g.inner(scores());
    matmul(q, kt, s, Axes::queries, Axes::keys, Axes::none, pad);
    return g.pointwise(CUDNN_POINTWISE_MUL, s, scale);
  }

  // -inf where a key is hidden: beyond the document, to the right of the band, to the left of it, each a chain of its
  // own.
  GraphTensor masked(GraphTensor s) {
    const SdpaBand band = sdpa_band(a);
    if (!packed() && !band.right && !band.left) return s;
    const GraphTensor hidden = scalar(SdpaTensor::minus_infinity);
    if (packed()) s = g.select(inside_document(s), s, hidden);
    if (band.right) s = g.select(right_of_nothing(s, band), s, hidden);
    if (band.left) s = g.select(left_of_nothing(s), s, hidden);
    return s;
  }

 private:
  const GraphTensor* lengths(Axes axes) const {
    if (!packed() || axes == Axes::none) return nullptr;
    return axes == Axes::queries ? &*q_lengths_ : &*k_lengths_;
  }
  GraphTensor operand(SdpaTensor id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                      int64_t workspace_bytes) {
    const Descriptor* ragged = packed() ? offsets(id).descriptor : nullptr;
    operands_.push_back({id, workspace_bytes});
    return g.external(static_cast<int64_t>(id), dims, strides, type, ragged);
  }
  GraphTensor workspace(SdpaTensor id, const GraphDims& dims, const GraphDims& strides, cudnnDataType_t type,
                        int64_t bytes) {
    operands_.push_back({id, bytes});
    return g.external(static_cast<int64_t>(id), dims, strides, type);
  }
  GraphTensor offsets(SdpaTensor of) {
    const GraphDims dims{a.batch + 1, 1, 1, 1};
    return workspace(offsets_of(of), dims, packed_strides(dims), CUDNN_DATA_INT64, (a.batch + 1) * 8);
  }

  GraphTensor inside_document(const GraphTensor& s) {
    const GraphTensor row = g.index(s, 2), column = g.index(s, 3);
    const GraphTensor row_inside = g.pointwise(CUDNN_POINTWISE_CMP_LT, row, *q_lengths_, kBool);
    const GraphTensor column_inside = g.pointwise(CUDNN_POINTWISE_CMP_LT, column, *k_lengths_, kBool);
    return g.pointwise(CUDNN_POINTWISE_LOGICAL_AND, row_inside, column_inside, kBool);
  }
  GraphTensor right_of_nothing(const GraphTensor& s, const SdpaBand& band) {
    GraphTensor row = g.index(s, 2);
    const GraphTensor column = g.index(s, 3);
    if (packed() && a.packing.align_ends) {
      row = g.pointwise(CUDNN_POINTWISE_ADD, row, *k_lengths_, kInt32);
      row = g.pointwise(CUDNN_POINTWISE_SUB, row, *q_lengths_, kInt32);
    }
    if (band.right_shift != 0) {
      row = g.pointwise(CUDNN_POINTWISE_ADD, row, scalar(SdpaTensor::right_shift, kInt32), kInt32);
    }
    return g.pointwise(CUDNN_POINTWISE_CMP_GE, row, column, kBool);
  }
  GraphTensor left_of_nothing(const GraphTensor& s) {
    const GraphTensor row = g.index(s, 2);
    GraphTensor column =
        g.pointwise(CUDNN_POINTWISE_ADD, g.index(s, 3), scalar(SdpaTensor::left_shift, kInt32), kInt32);
    if (packed() && a.packing.align_ends) {
      column = g.pointwise(CUDNN_POINTWISE_SUB, column, *k_lengths_, kInt32);
      column = g.pointwise(CUDNN_POINTWISE_ADD, column, *q_lengths_, kInt32);
    }
    return g.pointwise(CUDNN_POINTWISE_CMP_GT, column, row, kBool);
  }

  std::vector<SdpaOperand>& operands_;
  std::optional<GraphTensor> q_lengths_, k_lengths_;
};
using Axes = SdpaBuilder::Axes;

// The weights in bf16, and the statistics that backward needs.
GraphTensor softmax(SdpaBuilder& b, const GraphTensor& s, const GraphTensor& lse) {
  GraphBuilder& g = b.g;
  const GraphTensor maximum = g.inner(b.queries(1)), sum = g.inner(b.queries(1));
  g.reduce(CUDNN_REDUCE_TENSOR_MAX, s, maximum);
  const GraphTensor e = g.pointwise(CUDNN_POINTWISE_EXP, g.pointwise(CUDNN_POINTWISE_SUB, s, maximum));
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, e, sum);
  g.pointwise_into(CUDNN_POINTWISE_ADD, maximum, g.pointwise(CUDNN_POINTWISE_LOG, sum), lse);
  return g.pointwise(CUDNN_POINTWISE_DIV, e, sum, kBf16);
}

// sum(dout * out) of each row, in memory because two passes of the kernel read it.
GraphTensor row_terms(SdpaBuilder& b, const CudaSdpaBackward& p, const GraphTensor& dout) {
  GraphBuilder& g = b.g;
  const GraphDims value = b.queries(b.a.value_width);
  const GraphTensor out = b.rows(SdpaTensor::out, value, p.out_stride, kBf16);
  const GraphTensor product = g.inner(value), sum = g.inner(b.queries(1));
  g.pointwise_into(CUDNN_POINTWISE_MUL, dout, out, product);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, product, sum);
  const GraphTensor term = b.statistic(SdpaTensor::row_term);
  g.pointwise_into(CUDNN_POINTWISE_MUL, sum, b.scalar(SdpaTensor::one), term);
  return term;
}

// weights^T x rows: what each key collects from the queries of its heads.
void collect(SdpaBuilder& b, const GraphTensor& weights, const GraphTensor& x, const GraphTensor& to) {
  GraphBuilder& g = b.g;
  const GraphTensor turned = g.inner(transposed(weights.dims), transposed(weights.strides), kBf16);
  g.reshape(weights, turned);
  if (b.a.heads == b.a.kv_heads) return b.matmul(turned, x, to, Axes::keys, Axes::none, Axes::queries);
  const GraphTensor each = b.every_head(to);
  b.matmul(turned, x, each, Axes::keys, Axes::none, Axes::queries);
  g.reduce(CUDNN_REDUCE_TENSOR_ADD, each, to);
}

// ds x k. Added up in fp32 memory in whatever order blocks of keys finish; the deterministic kernel keeps ds instead
// and writes dq once.
void query_gradient(SdpaBuilder& b, const CudaSdpaBackward& p, const GraphTensor& ds, const GraphTensor& kt) {
  GraphBuilder& g = b.g;
  const GraphTensor k = g.inner(transposed(kt.dims), transposed(kt.strides), kBf16, kt.ragged);
  g.reshape(kt, k);
  const GraphTensor dq = b.rows(SdpaTensor::dq, b.queries(b.a.width), p.dq_stride, native(p.dq_type));
  if (b.a.deterministic) return b.matmul(ds, k, dq, Axes::queries, Axes::none, Axes::keys);
  const GraphTensor sum = b.query_sum();
  b.matmul(ds, k, sum, Axes::queries, Axes::none, Axes::keys);
  g.identity(sum, dq);
}

}  // namespace

SdpaGraph sdpa_forward_graph(const CudaSdpaForward& call, cudnnHandle_t handle) {
  SdpaGraph graph;
  const CudaSdpa& a = call.a;
  SdpaBuilder b(a, graph);
  const GraphTensor q = b.rows(SdpaTensor::q, b.queries(a.width), a.q_stride, kBf16);
  const GraphTensor kt = b.rows_transposed(SdpaTensor::k, b.keys(a.width), a.k_stride);
  const GraphTensor v = b.rows(SdpaTensor::v, b.keys(a.value_width), a.v_stride, kBf16);
  const GraphTensor lse = b.statistic(SdpaTensor::lse);
  const GraphTensor out = b.rows(SdpaTensor::out, b.queries(a.value_width), call.out_stride, kBf16);
  const GraphTensor s = b.masked(b.scaled_scores(q, kt, b.scalar(SdpaTensor::scale), /*pad=*/true));
  b.matmul(softmax(b, s, lse), v, out, Axes::queries, Axes::none, Axes::keys);
  graph.graph = graph.parts.finish(handle);
  return graph;
}

SdpaGraph sdpa_backward_graph(const CudaSdpaBackward& call, cudnnHandle_t handle) {
  SdpaGraph graph;
  const CudaSdpa& a = call.a;
  SdpaBuilder b(a, graph);
  GraphBuilder& g = b.g;
  const GraphTensor q = b.rows(SdpaTensor::q, b.queries(a.width), a.q_stride, kBf16);
  const GraphTensor kt = b.rows_transposed(SdpaTensor::k, b.keys(a.width), a.k_stride);
  const GraphTensor vt = b.rows_transposed(SdpaTensor::v, b.keys(a.value_width), a.v_stride);
  const GraphTensor lse = b.statistic(SdpaTensor::lse);
  const GraphTensor dout = b.rows(SdpaTensor::dout, b.queries(a.value_width), call.dout_stride, kBf16);
  const GraphTensor scale = b.scalar(SdpaTensor::scale);

  const GraphTensor term = row_terms(b, call, dout);
  const GraphTensor s = g.pointwise(CUDNN_POINTWISE_SUB, b.scaled_scores(q, kt, scale, /*pad=*/false), lse);
  const GraphTensor p = g.pointwise(CUDNN_POINTWISE_EXP, b.masked(s));
  collect(b, p, dout, b.rows(SdpaTensor::dv, b.keys(a.value_width), call.dv_stride, kBf16));

  const GraphTensor dp = g.inner(b.scores());
  b.matmul(dout, vt, dp, Axes::queries, Axes::keys, Axes::none);
  const GraphTensor surplus = g.pointwise(CUDNN_POINTWISE_MUL, g.pointwise(CUDNN_POINTWISE_SUB, dp, term), p);
  const GraphTensor ds = g.pointwise(CUDNN_POINTWISE_MUL, surplus, scale, kBf16);
  collect(b, ds, q, b.rows(SdpaTensor::dk, b.keys(a.width), call.dk_stride, kBf16));
  query_gradient(b, call, ds, kt);
  graph.graph = graph.parts.finish(handle);
  return graph;
}

}  // namespace farsight::cuda
