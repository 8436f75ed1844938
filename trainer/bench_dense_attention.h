// SPDX-License-Identifier: Apache-2.0
// Dense causal attention of one head on top of matmul(): what one writes with a BLAS and no blockwise operator. The
// reference of the attention benchmark.
#pragma once

#include <cstdint>

namespace farsight {

enum class DenseSoftmax : uint8_t {
  scalar,  // mask the whole row with -inf, then maximum, libm expf and division over all of it
  vector   // Highway's exp, visible part of the row only
};

struct DenseHead {  // rows [tokens][width] with one row stride
  const float *q, *k, *v;
  int64_t tokens, width, stride;
};

// weights: tokens x tokens, overwritten with the normalised weights; out like v.
void dense_head_forward(const DenseHead& head, DenseSoftmax softmax, float* weights, float* out);

// Gradients of one head from the weights that the forward pass left; `work` is a second tokens x tokens buffer.
struct DenseHeadGradients {
  const float* dout;
  float *dq, *dk, *dv;
};
void dense_head_backward(const DenseHead& head, const float* weights, const DenseHeadGradients& gradients, float* work);

}  // namespace farsight
