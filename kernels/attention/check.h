// SPDX-License-Identifier: Apache-2.0
// Argument checks shared by the attention blocks. Error{internal} for sizes and pointers that contradict each other,
// Error{config} for policy values that have no meaning; the message names the field and both values.
#pragma once

#include "kernels/attention/block.h"

namespace farsight {

void check_attention(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys);
void check_state(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                 const AttentionState& state);
void check_gradients(const AttentionSpec& spec, const AttentionQueries& queries, const AttentionKeys& keys,
                     const AttentionRowSaved& saved, const AttentionGradients& gradients);

// What multiplies q.k: spec.scale, or 1 / sqrt(width) where it is 0.
float score_scale(const AttentionSpec& spec, int64_t width);

}  // namespace farsight
