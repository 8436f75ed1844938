// SPDX-License-Identifier: Apache-2.0
// The sizes of one rank's part of a model and of a micro-batch: what the cost formulas are written in. Of the rank that
// has most, where ranks differ.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context_attention.h"
#include "trainer/config.h"

namespace farsight {

struct RankShape {
  // With vocab = 0 the model is counted without embedding and head.
  RankShape(const Config& config, const RunLayout& layout, int64_t vocab);

  int64_t batch;     // B
  int64_t sequence;  // T
  int64_t tokens;    // n, of a sample
  int64_t rows;      // B * n: rows of the products
  int64_t own_rows;  // rows between blocks: a tensor rank's share of them where activations are cut
  int64_t tensor, context, ring, ulysses;
  bool cut_rows;  // own_rows differs from rows
  int64_t layers, width;
  int64_t head_width, heads, kv_heads;  // of the tensor rank
  int64_t mlp, gates;                   // columns of the tensor rank; inputs of the activation (2 with a gate)
  int64_t vocabulary;                   // rows of the tensor rank

  int64_t queries() const { return heads * head_width; }
  int64_t keys() const { return kv_heads * head_width; }
};

// How one layer's attention is spread over the context ranks.
struct ContextShape {
  ContextShape(const RankShape& rank, ContextScheme scheme);

  ContextScheme scheme;
  int64_t dealt;                // ranks that share the heads by all-to-all; 1: none
  int64_t members;              // ranks that keys travel between
  int64_t heads, kv_heads;      // of a rank after the heads are dealt
  int64_t tokens;               // of a sample
  int64_t queries, keys, rows;  // columns and rows of the attention itself
};

// Distinct schemes of the layers, with the number of layers of each.
struct SchemeCount {
  ContextScheme scheme;
  int64_t layers;
};
std::vector<SchemeCount> context_schemes(const Config& config);

}  // namespace farsight
