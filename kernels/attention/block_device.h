// SPDX-License-Identifier: Apache-2.0
// The functions of block.h for tensors on a CUDA device. Internal to kernels/attention.
#pragma once

#include "kernels/attention/block.h"

namespace farsight {

void attention_forward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                            AttentionState& state);
void attention_forward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                            const Tensor& out, const Tensor& lse, const Tensor& entropy);
void attention_finish_cuda(const AttentionState& state, const Tensor& out, const Tensor& lse, const Tensor& entropy);
void attention_backward_rows_cuda(const Tensor& lse, const Tensor& out, const Tensor& dout, int64_t value_width,
                                  const Tensor& grad_entropy, const Tensor& entropy, const Tensor& grad_lse,
                                  const Tensor& row_term);
void attention_backward_cuda(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                             const AttentionRowSaved& saved, const AttentionGradients& gradients);

}  // namespace farsight
