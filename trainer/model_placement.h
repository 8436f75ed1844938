// SPDX-License-Identifier: Apache-2.0
// Which part of each weight of a language model a rank of the tensor axis holds, and over which axes its gradient is
// partial. Heads are dealt out by whole groups of query heads that share a key head; with more ranks than key heads
// each key head lies on several neighbouring ranks (axis kvrep), which share its query heads.
//
//   by rows (first dimension)    embedding, head, q, k, v, gate, up and their biases, score vectors
//   by columns                   out, down
//   on every rank                norms, biases of out and down, positions
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/context_attention.h"
#include "parallel/mesh.h"
#include "parallel/placement.h"

namespace farsight {

// Where a model runs. The default is one rank.
struct ModelSharding {
  MeshShape mesh;
  int64_t rank = 0;
  bool sequence_parallel = true;       // acts with tensor > 1
  std::vector<ContextScheme> context;  // of each layer; empty: two_d everywhere
  int64_t gather_heads = 0;            // of all_gather: key heads at a time, 0 = all
};

// Ranks of the tensor axis that hold the same key head (extent of kvrep): tensor / kv_heads, at least 1.
int64_t key_replicas(int64_t kv_heads, int64_t tensor);

// Heads of each tensor rank. Throws Error{config} naming heads and ranks for a split that cannot be: more ranks than
// query heads, or more ranks than key heads that are not a multiple of them.
struct TensorHeads {
  std::vector<int64_t> query, key;
};
TensorHeads tensor_heads(int64_t heads, int64_t kv_heads, int64_t tensor);

class ModelPlacement {
 public:
  ModelPlacement(int64_t heads, int64_t kv_heads, const ModelSharding& sharding);

  Placement rows() const;                     // cut along the first dimension, evenly
  Placement columns() const;                  // cut along the second
  Placement query_rows(int64_t width) const;  // by query heads; `width` rows each
  Placement key_rows(int64_t width) const;    // by key heads
  Placement query_columns(int64_t width) const;
  Placement on_rows_of_activations() const;  // replicated; acts on activations as they lie between blocks
  Placement on_heads() const;                // replicated; acts on each head of the rank (qk-norm)

  int64_t heads() const { return heads_.query[tensor_index_]; }
  int64_t kv_heads() const { return heads_.key[tensor_index_]; }
  int64_t first_head() const;  // global index of the first query head

 private:
  std::vector<int64_t> times(const std::vector<int64_t>& heads, int64_t width) const;

  ModelSharding sharding_;
  TensorHeads heads_;
  size_t tensor_index_ = 0;
};

}  // namespace farsight
