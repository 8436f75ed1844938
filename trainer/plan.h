// SPDX-License-Identifier: Apache-2.0
// What a configuration costs, by formula: parameters, arithmetic, memory per rank, traffic. Needs no data, MPI or
// device, so that `farsight plan` can answer before a job is submitted.
//
// Conventions: an activation is fp32 (4 bytes); a product of [m,k] and [k,n] is 2mkn FLOPs; forward + backward = 3
// products. FLOPs per token = 6 P_matmul + 12 L H D K, K = keys a query sees on average (causal: (T + 1) / 2);
// a repeated forward pass (recompute) is not counted, documents are not counted as shorter rows.
// Source of the memory and traffic formulas: parallelism specification, sections 12, 16, 19, 20.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config.h"

namespace farsight {

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

// Bytes on the rank that holds most.
struct MemoryPlan {
  int64_t weights = 0, gradients = 0, optimizer = 0;
  int64_t activations = 0;  // kept from forward to backward, and the largest temporaries of one layer
  int64_t loss = 0;         // one chunk of logits with its gradient, and the gradient of the last layer
  int64_t ring = 0;         // keys, values and their gradients in transit
  int64_t data = 0;         // batches read ahead
  int64_t slack = 0;        // 5 %
  int64_t total() const { return weights + gradients + optimizer + activations + loss + ring + data + slack; }
};
MemoryPlan memory_plan(const Config& config, const RunLayout& layout, int64_t vocab);

// Bytes that one rank sends per optimizer step.
struct TrafficPlan {
  int64_t gradients = 0;  // all-reduce over data x ring
  int64_t ring = 0;       // keys and values forward, the same and their gradients backward
  int64_t total() const { return gradients + ring; }
};
TrafficPlan traffic_plan(const Config& config, const RunLayout& layout, int64_t vocab);

// What is known about the training data.
struct DatasetFacts {
  bool present = false;  // every train file exists
  int64_t vocab = 0;     // ids of the tokeniser
  int64_t epoch_samples = 0;
  std::vector<std::string> notes;     // "corpus.h5 does not exist yet"
  std::vector<std::string> problems;  // errors that training would meet
};

struct Plan {
  RunLayout layout;
  DatasetFacts data;
  int64_t vocab = 0;  // 0 = not known yet
  ModelSize size;
  double visible_keys = 0.0;
  double flops_per_token = 0.0, flops_per_step = 0.0;
  MemoryPlan memory;
  TrafficPlan traffic;
  int64_t memory_limit = 0;  // 0 = none given
  std::vector<std::string> notes;
};
// Throws Error{config} with every problem found: layout, dataset, memory.
Plan make_plan(const Config& config, int64_t ranks, int64_t memory_limit, const DatasetFacts& data);
std::string plan_text(const Config& config, const Plan& plan);
std::string plan_json(const Config& config, const Plan& plan);

}  // namespace farsight
