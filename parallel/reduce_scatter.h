// SPDX-License-Identifier: Apache-2.0
// Reduce-scatter of uneven pieces as an operation that advances in steps.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "parallel/comm.h"
#include "parallel/rank_engine.h"
#include "parallel/transport.h"

namespace farsight {

// Every rank sends each other rank its contribution to that rank's piece and adds what arrives for its own, in rank
// order and in rounds, so that the staging memory is bounded: a round takes at most `round_bytes` / ranks of a piece.
class ReduceScatter final : public Operation {
 public:
  ReduceScatter(Transport& transport, std::span<const float> data, std::span<float> mine,
                std::span<const int64_t> counts, ReduceOp op, int tag, int64_t round_bytes);
  bool advance() override;

 private:
  // The part of the piece of `owner` that belongs to the current round.
  std::span<const float> part(int owner) const;
  void start_round();
  void combine();

  Transport& transport_;
  std::span<const float> data_;
  std::span<float> mine_;
  std::vector<int64_t> counts_, begins_;
  ReduceOp op_;
  int tag_;
  int64_t step_ = 0;    // elements of a piece in one round
  int64_t round_ = -1;  // -1: not started
  int64_t rounds_ = 0;  // the same on all ranks
  Tensor staging_;      // [ranks - 1, step]
  std::vector<const float*> contributions_;
  std::vector<MessagePtr> messages_;
};

}  // namespace farsight
