// SPDX-License-Identifier: Apache-2.0
// What a training step costs, by formula: parameters, arithmetic, memory of a rank, bytes on the wire. No data, no
// ranks, no device; everything follows from a configuration and the layout of its ranks. Times: step_time.h.
//
// Conventions: a product of [m,k] and [k,n] is 2mkn FLOPs; forward + backward = 3 products. FLOPs per token =
// 6 P_matmul + 12 L H D K, K = keys a query sees on average (causal: (T + 1) / 2); a repeated forward pass (recompute)
// is not counted, documents are not counted as shorter rows.
// Source of the formulas: parallelism specification, sections 12, 16, 19, 20.
#pragma once

#include <cstdint>
#include <vector>

#include "trainer/config.h"

namespace farsight {

// Bytes per element. The default is train.precision = "f32".
struct Precision {
  const char* name = "f32";
  int64_t weight = 4, gradient = 4;
  int64_t master = 0;  // fp32 copy of a weight that is kept in a shorter format
  int64_t activation = 4;
};
inline constexpr Precision kSinglePrecision{};
inline constexpr Precision kMixedPrecision{"bf16", 2, 4, 4, 2};  // 18 bytes per parameter with AdamW

struct ModelSize {
  int64_t embedding = 0;  // token table; also the output projection when tied
  int64_t positions = 0;  // learned table
  int64_t attention = 0;
  int64_t mlp = 0;
  int64_t norms = 0;
  int64_t head = 0;    // output projection of its own
  int64_t matmul = 0;  // parameters that every token is multiplied with, the output projection included
  int64_t total() const { return embedding + positions + attention + mlp + norms + head; }
};

// vocab: rows of the embedding (model.vocab, or the dataset's; 0 leaves embedding and head out).
ModelSize model_size(const Config& config, int64_t vocab);
// Keys that a query sees, averaged over a sequence without document borders.
double mean_visible_keys(const Config& config);
// Model FLOPs of forward and backward per input token: the numerator of "fraction of ceiling".
double flops_per_token(const Config& config, int64_t vocab);

// Query-key pairs that one rank computes per sample and head, over the positions of `owner` in the layout's order.
struct PairCount {
  double most = 0.0;  // of the owner that has most
  double mean = 0.0;
  double imbalance() const { return mean > 0.0 ? most / mean : 1.0; }  // rho
};
// Owners are the members of the ring; with `all_owners` every rank of the context group. No document borders.
PairCount visible_pairs(const Config& config, const RunLayout& layout, bool all_owners);

// Parameters of one rank as the trainer lays them out: elements of its slabs, gaps included.
struct RankParameters {
  std::vector<int64_t> units;  // embedding, each layer, final norm and head
  int64_t slab = 0;            // of all units
  int64_t shard = 0;           // of them in the own ZeRO shards (everything at stage 0)
  int64_t buckets = 1;         // of the gradient reduction
};
// vocab >= 1 or 0, which counts an embedding of one row.
RankParameters rank_parameters(const Config& config, const RunLayout& layout, int64_t vocab, int64_t rank);
// Of the rank that has most.
RankParameters largest_rank_parameters(const Config& config, const RunLayout& layout, int64_t vocab);

// Bytes on the rank that holds most, at the moment of a step when it holds most.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, optimizer = 0;
  int64_t activations = 0;  // kept from forward to backward
  int64_t working = 0;      // temporaries of the fullest moment
  int64_t loss = 0;         // logits of a chunk and the gradient of the last layer, if that is the moment
  int64_t exchange = 0;     // in transit between ranks
  int64_t data = 0;         // batches read ahead
  int64_t slack = 0;        // 5 %
  int64_t offloaded = 0;    // beside all this, in host memory: inputs of recomputed layers of a rank on a device
  const char* moment = "";  // "loss", "mlp backward" ...
  int64_t expected() const { return weights + gradients + optimizer + activations + working + loss + exchange + data; }
  int64_t total() const { return expected() + slack; }
};
MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab,
                       const Precision& precision = kSinglePrecision);
// The same with the parameters counted before.
MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab, const Precision& precision,
                       const RankParameters& parameters);

}  // namespace farsight
