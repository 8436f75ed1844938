// SPDX-License-Identifier: Apache-2.0
// What an attention layer computes: score, bias, mask, multiplier, row statistics. Every policy is position-driven, so
// the same spec means the same thing on any part of the sequence.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace farsight {

enum class AttentionScore : uint8_t {
  scaled_dot,  // scale * q.k
  additive     // y_h . tanh(a_i + b_j); a, b are projected at home and take the places of q and k (Bahdanau 2015)
};

inline constexpr int32_t kNoWindow = std::numeric_limits<int32_t>::max();

// What computes on a device; the CPU has one way. automatic: the library where it can, else the own tile kernels.
enum class AttentionBackend : uint8_t { automatic, library, own };

struct AttentionSpec {
  AttentionScore score = AttentionScore::scaled_dot;
  float scale = 0.0F;                // of scaled_dot; 0 = 1 / sqrt(score width)
  bool causal = true;                // key position <= query position
  int32_t window_left = kNoWindow;   // query position - key position <= window_left
  int32_t window_right = kNoWindow;  // key position - query position <= window_right
  bool documents = false;            // document ids must be equal
  std::vector<float> alibi_slopes;   // per query head; s -= slope * |pos_q - pos_k|; empty = none
  double dropout = 0.0;              // of the weights, after normalisation; keep / (1 - p)
  bool entropy = false;              // row entropies H are produced and may receive a gradient
  AttentionBackend backend = AttentionBackend::automatic;
};

}  // namespace farsight
