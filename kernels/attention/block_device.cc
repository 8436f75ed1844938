// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/block_device.h"

#include "kernels/attention/check.h"
#include "kernels/attention/mask.h"
#include "kernels/column_sums.h"
#include "kernels/cuda/device.h"
#include "kernels/random.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

float* floats(const Tensor& t) { return static_cast<float*>(t.raw()); }
const int32_t* ids(const Tensor& t) { return static_cast<const int32_t*>(t.raw()); }

Tensor row_bounds(int64_t batch, int64_t tokens, const Tensor& positions, const Tensor& documents) {
  static_assert(sizeof(CudaRowBounds) == 4 * sizeof(int32_t));
  const Tensor bounds = Tensor::empty({batch, cuda_bounds(tokens), 4}, DType::i32, MemoryTag::attention);
  const CudaAttentionBounds a{batch, tokens, ids(positions), ids(documents), static_cast<CudaRowBounds*>(bounds.raw())};
  cuda_device().run("attention bounds", &CudaBackend::attention_bounds, a);
  return bounds;
}

// The arguments of a call, with the tensors that must live until it has been started.
struct Call {
  Tensor q_bounds, k_bounds, slopes;
  CudaAttention a{};

  Call(const AttentionSpec& spec, const AttentionQueries& q, const AttentionKeys& k) {
    const Tensor q_documents = spec.documents ? q.documents : Tensor(),
                 k_documents = spec.documents ? k.documents : Tensor();
    q_bounds = row_bounds(q.batch, q.tokens, q.positions, q_documents);
    k_bounds = row_bounds(q.batch, k.tokens, k.positions, k_documents);
    if (!spec.alibi_slopes.empty()) slopes = device_copy(spec.alibi_slopes);
    const MaskRule rule(spec);
    a.type = q.q.dtype();
    a.batch = q.batch;
    a.q_tokens = q.tokens;
    a.k_tokens = k.tokens;
    a.heads = q.heads;
    a.kv_heads = k.heads;
    a.width = q.width;
    a.value_width = k.value_width;
    a.q = q.q.raw();
    a.k = k.k.raw();
    a.v = k.v.raw();
    a.q_stride = q.q.row_stride();
    a.k_stride = k.k.row_stride();
    a.v_stride = k.v.row_stride();
    a.q_positions = ids(q.positions);
    a.k_positions = ids(k.positions);
    a.q_documents = ids(q_documents);
    a.k_documents = ids(k_documents);
    a.q_bounds = static_cast<const CudaRowBounds*>(q_bounds.raw());
    a.k_bounds = static_cast<const CudaRowBounds*>(k_bounds.raw());
    a.low = rule.low;
    a.high = rule.high;
    a.additive = spec.score == AttentionScore::additive;
    a.scale = a.additive ? 1.0F : score_scale(spec, q.width);
    a.score_vectors = a.additive ? q.score_vectors.raw() : nullptr;
    a.slopes = static_cast<const float*>(slopes.raw());
    a.dropout_keys = spec.dropout > 0.0 ? static_cast<const uint64_t*>(q.dropout_keys.raw()) : nullptr;
    a.first_head = static_cast<uint32_t>(q.first_head);
    a.threshold = dropout_threshold(spec.dropout);
    a.keep = static_cast<float>(1.0 / (1.0 - spec.dropout));
    a.entropy = spec.entropy;
  }
};

}  // namespace

void attention_forward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                            AttentionState& state) {
  const Call call(spec, queries, keys);
  CudaAttentionForward f{};
  f.a = call.a;
  f.m = floats(state.m);
  f.l = floats(state.l);
  f.u = floats(state.u);
  f.o = floats(state.o);
  cuda_device().run("attention", &CudaBackend::attention_forward, f);
}

void attention_forward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                            const Tensor& out, const Tensor& lse, const Tensor& entropy) {
  const Call call(spec, queries, keys);
  CudaAttentionForward f{};
  f.a = call.a;
  f.fresh = true;
  f.out = out.raw();
  f.out_stride = out.row_stride();
  f.lse = floats(lse);
  f.row_entropy = floats(entropy);
  cuda_device().run("attention", &CudaBackend::attention_forward, f);
}

void attention_finish_cuda(const AttentionState& state, const Tensor& out, const Tensor& lse, const Tensor& entropy) {
  CudaAttentionFinish a{};
  a.type = out.dtype();
  a.batch = state.o.dim(0);
  a.tokens = state.o.dim(1);
  a.heads = state.o.dim(2);
  a.value_width = state.o.dim(3);
  a.m = floats(state.m);
  a.l = floats(state.l);
  a.u = floats(state.u);
  a.o = floats(state.o);
  a.out = out.raw();
  a.out_stride = out.row_stride();
  a.lse = floats(lse);
  a.row_entropy = floats(entropy);
  cuda_device().run("attention_finish", &CudaBackend::attention_finish, a);
}

void attention_backward_rows_cuda(const Tensor& lse, const Tensor& out, const Tensor& dout, int64_t value_width,
                                  const Tensor& grad_entropy, const Tensor& entropy, const Tensor& grad_lse,
                                  const Tensor& row_term) {
  expect_together("attention_backward_rows", {&out, &dout});
  const CudaAttentionRowTerms a{
      out.dtype(),          lse.dim(0),      lse.dim(2),       lse.dim(1),      value_width,
      floats(lse),          out.raw(),       out.row_stride(), dout.raw(),      dout.row_stride(),
      floats(grad_entropy), floats(entropy), floats(grad_lse), floats(row_term)};
  cuda_device().run("attention row terms", &CudaBackend::attention_row_terms, a);
}

void attention_backward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                             const AttentionRowSaved& saved, const AttentionGradients& gradients) {
  const Call call(spec, queries, keys);
  const int64_t rows = cuda_attention_query_rows(queries.q.dtype());
  const int64_t blocks = queries.batch * ((queries.tokens + rows - 1) / rows);
  const Tensor dy = call.a.additive ? Tensor::empty({blocks, queries.heads * queries.width}) : Tensor();
  CudaAttentionBackward f{};
  f.a = call.a;
  f.lse = floats(saved.lse);
  f.row_term = floats(saved.row_term);
  f.grad_entropy = floats(saved.grad_entropy);
  f.dout = saved.dout.raw();
  f.dout_stride = saved.dout.row_stride();
  f.gradient_type = gradients.dq.dtype();
  f.dq = gradients.dq.raw();
  f.dk = gradients.dk.raw();
  f.dv = gradients.dv.raw();
  f.dq_stride = gradients.dq.row_stride();
  f.dk_stride = gradients.dk.row_stride();
  f.dv_stride = gradients.dv.row_stride();
  f.add_q = gradients.add_q;
  f.add_kv = gradients.add_kv;
  f.dscore_vectors = floats(dy);
  cuda_device().run("attention backward", &CudaBackend::attention_backward, f);
  if (call.a.additive) column_sums(dy, /*add=*/true, gradients.dscore_vectors);
}

}  // namespace farsight
