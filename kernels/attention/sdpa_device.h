// SPDX-License-Identifier: Apache-2.0
// Attention calls that the device's library (cuDNN) computes, rectangle by rectangle where a rank holds several runs of
// positions. Internal to kernels/attention. Each function returns false where the tile kernels are to do the call; the
// reason is noted with the device. Error{config} where the configuration insists on the library.
//
// Rectangles of several runs are merged through their bf16 outputs: 2^-9 of an output each, as the last rounding.
#pragma once

#include "kernels/attention/block.h"

namespace farsight {

bool sdpa_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                  AttentionState& state);
bool sdpa_forward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                  const Tensor& out, const Tensor& lse);
bool sdpa_backward(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                   const AttentionRowSaved& saved, const AttentionGradients& gradients);

}  // namespace farsight
