// SPDX-License-Identifier: Apache-2.0
#include "kernels/dense_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/cuda/device.h"
#include "kernels/dense_attention_cpu.h"
#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {
namespace {

// Operands, and what backward needs.
struct Call {
  int64_t batch, heads, queries, keys, width;
  float scale;
  Tensor q, k, v, previous;
  Tensor scores, statistics;
  Shape pairs() const { return {batch, heads, queries, keys}; }
  bool on_cpu() const { return q.device() == Device::cpu; }
};

Call make_call(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& previous,
               const DenseAttentionOptions& o) {
  expect_together("dense_attention", {&q, &k, &v});
  const int64_t columns = q.cols();
  const int64_t samples = std::max<int64_t>(o.batch, 1);
  const bool fits = o.batch >= 0 && o.heads > 0 && q.rank() == 2 && k.rank() == 2 && columns > 0 &&
                    columns % o.heads == 0 && q.rows() % samples == 0 && k.cols() == columns &&
                    k.rows() % samples == 0 && k.shape() == v.shape() && (q.rows() > 0) == (o.batch > 0) &&
                    (k.rows() > 0) == (o.batch > 0);
  if (!fits) {
    fail(ErrorKind::internal, "dense_attention: {} samples x {} heads, q {}, k {}, v {}", o.batch, o.heads,
         to_string(q.shape()), to_string(k.shape()), to_string(v.shape()));
  }
  const int64_t width = columns / o.heads;
  const float scale = o.scale.value_or(static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))));
  Call c{o.batch, o.heads, q.rows() / samples, k.rows() / samples, width, scale, q, k, v, previous, {}, {}};
  if (c.keys > kDenseAttentionKeys) {
    fail(ErrorKind::config,
         "attention with scores in memory (residual attention) takes at most {} tokens, not {}; "
         "use longer patches or switch residual attention off",
         kDenseAttentionKeys, c.keys);
  }
  if (!previous.defined()) return c;
  expect_shape("dense_attention", "previous", previous, c.pairs());
  if (previous.dtype() != DType::f32 || !previous.contiguous() || previous.device() != q.device()) {
    fail(ErrorKind::internal, "dense_attention: previous scores are {} on {}", to_string(previous.dtype()),
         to_string(previous.device()));
  }
  return c;
}

template <class T>
T* pointer(const Tensor& t) {
  return static_cast<T*>(t.raw());
}

DenseAttentionRows cpu_rows(const Call& c) {
  return {c.batch,
          c.heads,
          c.queries,
          c.keys,
          c.width,
          c.scale,
          c.q.data<float>(),
          c.k.data<float>(),
          c.v.data<float>(),
          c.q.row_stride(),
          c.k.row_stride(),
          c.v.row_stride(),
          pointer<float>(c.previous)};
}

void forward(const Call& c, const Tensor& out) {
  if (c.on_cpu()) {
    dense_attention_forward_cpu(cpu_rows(c), pointer<float>(c.scores), c.statistics.data<float>(), out.data<float>());
    return;
  }
  const CudaDenseAttention a{c.q.dtype(),
                             c.batch,
                             c.heads,
                             c.queries,
                             c.keys,
                             c.width,
                             c.scale,
                             c.q.raw(),
                             c.q.row_stride(),
                             c.k.raw(),
                             c.k.row_stride(),
                             c.v.raw(),
                             c.v.row_stride(),
                             pointer<float>(c.previous),
                             pointer<float>(c.scores),
                             pointer<float>(c.statistics),
                             out.raw()};
  cuda_device().run("dense_attention", &CudaBackend::dense_attention_forward, a);
}

// Undefined tensors: not wanted.
struct Targets {
  Gradient q, k, v, previous;
};

Gradient target(const Var& x) { return x.requires_grad() ? x.begin_gradient() : Gradient{Tensor(), 0.0F}; }

void backward_cpu(const Call& c, const Tensor& dout, const Tensor& dscores, const Targets& to) {
  DenseAttentionBackward b;
  b.scores = pointer<float>(c.scores);
  b.statistics = c.statistics.data<float>();
  b.dout = dout.data<float>();
  b.dscores = pointer<float>(dscores);
  b.dq = pointer<float>(to.q.tensor);
  b.dk = pointer<float>(to.k.tensor);
  b.dv = pointer<float>(to.v.tensor);
  b.dq_stride = to.q.tensor.row_stride();
  b.dk_stride = to.k.tensor.row_stride();
  b.dv_stride = to.v.tensor.row_stride();
  b.add_q = to.q.beta != 0.0F;
  b.add_k = to.k.beta != 0.0F;
  b.add_v = to.v.beta != 0.0F;
  b.dprevious = pointer<float>(to.previous.tensor);
  b.add_previous = to.previous.beta != 0.0F;
  dense_attention_backward_cpu(cpu_rows(c), b);
}

void backward_cuda(const Call& c, const Tensor& dout, const Tensor& dscores, const Targets& to) {
  const bool own = !to.previous.tensor.defined() || to.previous.beta != 0.0F;
  const Tensor gradients = own ? Tensor::empty(c.pairs()) : to.previous.tensor;
  const CudaDenseAttentionBackward a{c.q.dtype(),
                                     c.batch,
                                     c.heads,
                                     c.queries,
                                     c.keys,
                                     c.width,
                                     c.scale,
                                     c.q.raw(),
                                     c.q.row_stride(),
                                     c.k.raw(),
                                     c.k.row_stride(),
                                     c.v.raw(),
                                     c.v.row_stride(),
                                     pointer<float>(c.scores),
                                     pointer<float>(c.statistics),
                                     dout.raw(),
                                     pointer<float>(dscores),
                                     pointer<float>(gradients),
                                     to.q.tensor.raw(),
                                     to.q.tensor.row_stride(),
                                     to.q.beta != 0.0F,
                                     to.k.tensor.raw(),
                                     to.k.tensor.row_stride(),
                                     to.k.beta != 0.0F,
                                     to.v.tensor.raw(),
                                     to.v.tensor.row_stride(),
                                     to.v.beta != 0.0F};
  cuda_device().run("dense_attention backward", &CudaBackend::dense_attention_backward, a);
  if (to.previous.tensor.defined() && own) add_rows(gradients, to.previous.tensor);
}

}  // namespace

DenseAttentionResult dense_attention(Tape& tape, const Var& q, const Var& k, const Var& v, const Var& previous,
                                     const DenseAttentionOptions& options) {
  Call call = make_call(q.value(), k.value(), v.value(), previous.defined() ? previous.value() : Tensor(), options);
  Tensor out = Tensor::empty({call.q.rows(), call.q.cols()}, call.q.dtype());
  call.statistics = Tensor::empty({call.batch, call.heads, call.queries, 2});
  const bool keep = options.scores || (!call.on_cpu() && tape.recording());
  if (keep) call.scores = Tensor::empty(call.pairs());
  forward(call, out);
  DenseAttentionResult result;
  result.out = tape.variable(std::move(out), {q, k, v, previous});
  if (options.scores) result.scores = tape.variable(call.scores, {q, k, previous});
  std::vector<Var> outs = {result.out};
  if (options.scores) outs.push_back(result.scores);
  tape.record(outs, {}, [q, k, v, previous, result, call = std::move(call)] {
    const bool arrived = result.scores.requires_grad();
    const Tensor dscores = arrived ? result.scores.grad() : Tensor();
    Targets to;
    // The gradient of the scores becomes that of the previous ones in its own memory.
    if (arrived && previous.requires_grad() && previous.adopt_gradient(dscores)) {
      to.previous = {dscores, 0.0F};
    } else {
      to.previous = target(previous);
    }
    to.q = target(q);
    to.k = target(k);
    to.v = target(v);
    call.on_cpu() ? backward_cpu(call, result.out.grad(), dscores, to)
                  : backward_cuda(call, result.out.grad(), dscores, to);
  });
  return result;
}

}  // namespace farsight
